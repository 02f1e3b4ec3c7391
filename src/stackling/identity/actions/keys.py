"""Key repositories on disk, as upstream lays them out: files 0, 1, 2, … in one directory.

The highest number is the primary, which encrypts; 0 is staged: it decrypts already and is the next primary. So a key
is known everywhere before anything is encrypted with it, and rotation needs no moment of agreement.
"""

import os
import shutil
import tempfile
import threading
from pathlib import Path

from cryptography.fernet import Fernet, MultiFernet

from stackling.base.cloud import Cloud

TOKENS = "fernet"
CREDENTIALS = "credential"


class Repository:
    """The keys in one directory, read again when the directory changes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._keys: tuple[MultiFernet, Fernet] | None = None

    def setup(self) -> None:
        """Have a primary and a staged key. Several processes may do so at once; one wins."""
        if self.directory.is_dir() and any(self.directory.iterdir()):
            return
        self.directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{self.directory.name}-", dir=self.directory.parent))
        for number in (0, 1):
            _write(made / str(number), Fernet.generate_key())
        try:
            os.rename(made, self.directory)
        except OSError:
            shutil.rmtree(made)  # another process was first

    def rotate(self, keep: int) -> None:
        """The staged key becomes the primary, a new one is staged, and the oldest go until `keep` are left."""
        self.setup()
        primary = max(self.numbers())
        os.rename(self.directory / "0", self.directory / str(primary + 1))
        staged = self.directory / ".staged"
        _write(staged, Fernet.generate_key())
        os.rename(staged, self.directory / "0")
        old = [n for n in self.numbers() if n]
        for number in old[: max(0, len(old) - (keep - 1))]:
            (self.directory / str(number)).unlink()
        self._stamp = None

    def numbers(self) -> list[int]:
        return sorted(int(f.name) for f in self.directory.iterdir() if f.name.isdigit())

    def fernets(self) -> tuple[MultiFernet, Fernet]:
        """What decrypts with any key, and what encrypts with the primary."""
        try:
            stat = os.stat(self.directory)
        except FileNotFoundError:
            self.setup()
            stat = os.stat(self.directory)
        stamp = (stat.st_mtime_ns, stat.st_ino)
        with self._lock:
            if self._keys is None or stamp != self._stamp:
                numbers = sorted(self.numbers(), reverse=True)
                keys = [Fernet((self.directory / str(n)).read_bytes()) for n in numbers]
                self._keys = MultiFernet(keys), keys[0]
                self._stamp = stamp
            return self._keys


def _write(path: Path, key: bytes) -> None:
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as f:
        f.write(key)


_lock = threading.Lock()
_repositories: dict[Path, Repository] = {}


def repository(cloud: Cloud, name: str) -> Repository:
    """The repository `name` of the cloud, read at most once a process while it stays as it is."""
    directory = Path(cloud.config.paths.state_dir) / "keys" / name
    with _lock:
        if directory not in _repositories:
            _repositories[directory] = Repository(directory)
        return _repositories[directory]


def rotate_token_keys(cloud: Cloud) -> None:
    """Rotate the keys of tokens, keeping as many as the configuration says."""
    repository(cloud, TOKENS).rotate(cloud.config.identity.fernet_keys)
