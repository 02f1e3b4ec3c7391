"""What a virtual machine writes: text, taken up to a limit, since whoever rules the machine may write for ever."""

import contextlib
import os
import threading
from collections.abc import Iterator

# Neither a terminal nor a page that shows a log is to be told anything but text.
_CONTROLS = bytes(n for n in range(32) if n not in b"\t\n")
_KEPT = 16 << 10
_CUT = b"\n(what follows is left out: it is too much)\n"


class Heard:
    """What arrives at `fd`, which QEMU writes to: the first `most` bytes go on to the open file `to`."""

    def __init__(self, to: int | None, most: int) -> None:
        self._to, self._left = to, most
        self._reading, self.fd = os.pipe()
        self._last = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def qemu(self) -> str:
        """The port as QEMU's character device is told of it."""
        return f"/proc/self/fd/{self.fd}"

    @property
    def last(self) -> str:
        """The end of it, whatever the limit was."""
        return self._last.decode(errors="replace")

    def end(self) -> None:
        """QEMU is gone: take what is left."""
        os.close(self.fd)
        self._thread.join()
        os.close(self._reading)

    def _read(self) -> None:
        while data := os.read(self._reading, 64 << 10):
            text = data.translate(None, _CONTROLS)
            self._last = (self._last + text)[-_KEPT:]
            if self._to is not None and self._left:
                now = text[: self._left]
                self._left -= len(now)
                try:
                    with open(self._to, "ab", closefd=False) as file:
                        file.write(now if self._left else now + _CUT)
                except OSError:  # a full disk; the machine must not wait for it
                    self._to = None


@contextlib.contextmanager
def heard(to: int | None, most: int) -> Iterator[Heard]:
    made = Heard(to, most)
    try:
        yield made
    finally:
        made.end()
