"""Key repositories on disk, as upstream lays them out: files 0, 1, 2, … in one directory.

The highest number is the primary, which encrypts or signs; 0 is staged: it is believed already and is the next
primary. So a key is known everywhere before anything is made with it, and rotation needs no moment of agreement.
A file's time is when its key was made.
"""

import fcntl
import hashlib
import math
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from cryptography.fernet import Fernet, MultiFernet
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from stackling.base.audit import Act
from stackling.base.cloud import Cloud
from stackling.base.db import Tx
from stackling.identity.state import revision

TOKENS = "fernet"
CREDENTIALS = "credential"
RECEIPTS = "receipt"
SIGNATURES = "jws"
EXPIRED_WINDOW = timedelta(days=2)  # how long after its end `allow_expired` still shows a token
_CREDENTIALS_KEPT = 3
_TICK = 50_000_000  # nanoseconds: two changes of a directory within one may bear the same time

T = TypeVar("T")


class Key(NamedTuple):
    """One key of a repository. `made_at` is when it was made, not since when it is primary."""

    number: int
    role: str  # staged, primary, or old
    made_at: datetime


class Repository(Generic[T]):
    """The keys in one directory, read again when the directory changes."""

    def __init__(self, directory: Path, make: Callable[[], bytes], read: Callable[[list[bytes]], T]) -> None:
        self.directory = directory
        self._make = make
        self._read = read
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._keys: T | None = None

    def there(self) -> bool:
        return self.directory.is_dir() and bool(self.numbers())

    def setup(self, now: datetime) -> None:
        """Have a primary and a staged key. Several processes may do so at once; one wins."""
        if self.there():
            return
        self.directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{self.directory.name}-", dir=self.directory.parent))
        for number in (0, 1):
            _write(made / str(number), self._make(), now)
        try:
            os.rename(made, self.directory)
        except OSError:
            shutil.rmtree(made)  # another process was first

    def rotate(self, keep: int, now: datetime) -> None:
        """The staged key becomes the primary, a new one is staged, and the oldest go until `keep` are left.

        One at a time. Where an earlier rotation was cut short, this one ends it.
        """
        self.setup(now)
        with self._alone():
            staged, fresh = self.directory / "0", self.directory / ".staged"
            _write(fresh, self._make(), now)
            if staged.exists():
                os.rename(staged, self.directory / str(max(self.numbers()) + 1))
            os.rename(fresh, staged)
            old = [n for n in self.numbers() if n]
            for number in old[: max(0, len(old) - (keep - 1))]:
                (self.directory / str(number)).unlink()
        self._stamp = None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with open(self.directory.with_name(f".{self.directory.name}.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def numbers(self) -> list[int]:
        return sorted(int(f.name) for f in self.directory.iterdir() if f.name.isdigit())

    def listing(self) -> list[Key]:
        """What keys there are, the primary first; none in a repository that was never set up."""
        if not self.there():
            return []
        numbers = self.numbers()[::-1]
        roles = {numbers[0]: "primary", 0: "staged"}
        return [Key(n, roles.get(n, "old"), self._made_at(n)) for n in numbers]

    def _made_at(self, number: int) -> datetime:
        stamp = (self.directory / str(number)).stat().st_mtime
        return datetime.fromtimestamp(stamp, UTC).replace(tzinfo=None)

    def opened(self, now: datetime) -> T:
        """The keys, ready for use."""
        try:
            stat = os.stat(self.directory)
        except FileNotFoundError:
            self.setup(now)
            stat = os.stat(self.directory)
        stamp = (stat.st_mtime_ns, stat.st_ino)
        with self._lock:
            if self._keys is None or stamp != self._stamp:
                self._keys = self._read(self._contents())
                # A change within the same tick of the clock would leave the time as it is.
                self._stamp = stamp if time.time_ns() - stat.st_mtime_ns > _TICK else None
            return self._keys

    def _contents(self) -> list[bytes]:
        """The keys' files, the primary first."""
        for _ in range(100):
            try:
                found = [(self.directory / str(n)).read_bytes() for n in self.numbers()[::-1]]
            except FileNotFoundError:  # renamed by a rotation meanwhile
                continue
            if found:
                return found
        raise FileNotFoundError(f"no keys in {self.directory}")


def _write(path: Path, key: bytes, now: datetime) -> None:
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as f:
        f.write(key)
        f.flush()
        os.fsync(f.fileno())  # what is made with a key must not outlive it in a power cut
    when = now.replace(tzinfo=UTC).timestamp()
    os.utime(path, (when, when))


# -- what the keys are -------------------------------------------------------------------------------------------------


class Fernets(NamedTuple):
    """What decrypts with any key, and what encrypts with the primary."""

    every: MultiFernet
    primary: Fernet


def _fernets(contents: list[bytes]) -> Fernets:
    made = [Fernet(c) for c in contents]
    return Fernets(MultiFernet(made), made[0])


class Signing(NamedTuple):
    """One EC key pair on P-256. `id` is the start of its public key's digest."""

    id: str
    private: ec.EllipticCurvePrivateKey


def _new_pair() -> bytes:
    made = ec.generate_private_key(ec.SECP256R1())
    return made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _pairs(contents: list[bytes]) -> list[Signing]:
    made = []
    for text in contents:
        private = load_pem_private_key(text, None)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise TypeError("a key for JWS tokens is not an EC key")
        public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        made.append(Signing(hashlib.sha256(public).hexdigest()[:16], private))
    return made


_lock = threading.Lock()
_fernet: dict[Path, Repository[Fernets]] = {}
_signing: dict[Path, Repository[list[Signing]]] = {}


def _home(cloud: Cloud) -> Path:
    return Path(cloud.config.paths.state_dir) / "keys"


def repository(cloud: Cloud, name: str) -> Repository[Fernets]:
    """The repository `name` of the cloud, read at most once a process while it stays as it is."""
    directory = _home(cloud) / name
    with _lock:
        if directory not in _fernet:
            _fernet[directory] = Repository(directory, Fernet.generate_key, _fernets)
        return _fernet[directory]


def fernets(cloud: Cloud, name: str) -> Fernets:
    """The keys of the repository `name`."""
    return repository(cloud, name).opened(cloud.clock.now())


def signatures(cloud: Cloud) -> Repository[list[Signing]]:
    """The key pairs that sign JWS tokens; the primary comes first."""
    directory = _home(cloud) / SIGNATURES
    with _lock:
        if directory not in _signing:
            _signing[directory] = Repository(directory, _new_pair, _pairs)
        return _signing[directory]


def every(cloud: Cloud) -> dict[str, Repository[Fernets] | Repository[list[Signing]]]:
    """All repositories by the names that `stackling identity` knows them under."""
    return {
        "tokens": repository(cloud, TOKENS),
        "jws": signatures(cloud),
        "receipts": repository(cloud, RECEIPTS),
        "credentials": repository(cloud, CREDENTIALS),
    }


# -- rotation ----------------------------------------------------------------------------------------------------------


def rotate(tx: Tx, cloud: Cloud, name: str, *, keep: int | None = None) -> None:
    """Rotate `tokens`, `jws` or `receipts`, keeping as many keys as the configuration says, or `keep`."""
    now = cloud.clock.now()
    every(cloud)[name].rotate(keep or cloud.config.identity.fernet_keys, now)
    _audited(tx, cloud, name)


def rotate_credentials(tx: Tx, cloud: Cloud) -> None:
    """Rotate the keys of credentials. Whoever calls this encrypts these anew."""
    repository(cloud, CREDENTIALS).rotate(_CREDENTIALS_KEPT, cloud.clock.now())
    _audited(tx, cloud, "credentials")


def _audited(tx: Tx, cloud: Cloud, name: str) -> None:
    revision.bump(tx)  # whose key is gone stops working at once, known or not
    cloud.audit.record(
        tx, Act(action="update/rotate", service="identity", target_type="data/security/keys", target_id=name)
    )


def rotate_due(cloud: Cloud) -> float:
    """Rotate what the configuration's schedule says is due. Returns the seconds until something is due again.

    As many keys are kept as tokens need that live as long as ours do, so that the schedule ends no token.
    """
    options = cloud.config.identity
    every_hours = timedelta(hours=options.key_rotation_hours)
    now, wait = cloud.clock.now(), 3600.0
    if not every_hours:
        return wait
    life = timedelta(seconds=options.token_lifetime) + EXPIRED_WINDOW
    keep = max(options.fernet_keys, 2 + math.ceil(life / every_hours))
    for name, store in every(cloud).items():
        staged = next((k for k in store.listing() if k.role == "staged"), None)
        if name == "credentials" or staged is None:
            continue
        if staged.made_at + every_hours <= now:
            with cloud.db.begin() as tx:
                rotate(tx, cloud, name, keep=keep)
        else:
            wait = min(wait, (staged.made_at + every_hours - now).total_seconds())
    return wait
