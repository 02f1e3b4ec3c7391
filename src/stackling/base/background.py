"""Work that outlasts one call: started under a key, asked after with the same call.

Nothing is remembered of finished work: whoever asks again looks at what is, and finds it done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future


class Background:
    """Threads that each do one piece of work, at most one at a time per key."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._works: dict[str, Future[None]] = {}

    def run(self, key: str, work: Callable[[], None], wait: float = 2.0) -> bool:
        """Do the work unless it is already being done, waiting up to `wait` seconds. True: it is done.

        Whatever it raises is raised here, or in the next call for the key if nobody was waiting.
        """
        with self._lock:
            future = self._works.get(key)
            if future is None:
                future = self._works[key] = Future()
                threading.Thread(
                    target=self._do, args=(key, future, work), name=f"{self._name}-{key}", daemon=True
                ).start()
        try:
            future.exception(timeout=wait)
        except TimeoutError:
            if not future.done():
                return False
        with self._lock:
            if self._works.get(key) is future:
                del self._works[key]
        future.result()
        return True

    def running(self) -> set[str]:
        """The keys of unfinished work."""
        with self._lock:
            return {key for key, future in self._works.items() if not future.done()}

    def _do(self, key: str, future: Future[None], work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that asks
            future.set_exception(error)
        else:
            # Success is not kept: by the next call somebody may have undone it.
            with self._lock:
                self._works.pop(key, None)
            future.set_result(None)
