"""Files that are written behind a training, so that no step waits for a disk.

Rules:
- One thread, and what is put first is written first: a state never appears before the LoRAs of the steps before it.
- What waits holds at most so many bytes of memory; then `put` waits. Something larger than that goes alone.
- After a failure nothing more is written, so that a full disk has no gaps. `check`, `put` and `drain` raise it.
- The end of the `with` block waits for all that was put, also when an error ends it: whoever goes on finds it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType


class BackgroundWriter:
    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._waiting: deque[tuple[Future[None], int]] = deque()
        self._failed = False

    def __enter__(self) -> BackgroundWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()
        if error is None:
            self.check()

    def has_room(self, size_bytes: int) -> bool:
        """Whether `put` would not wait."""
        self.check()
        held = sum(size for _, size in self._waiting)
        return not self._waiting or held + size_bytes <= self._most_bytes

    def put(self, write: Callable[[], None], size_bytes: int) -> None:
        """Has `write` called on the other thread. It must hold copies of what may change, `size_bytes` of them."""
        while not self.has_room(size_bytes):
            self._finish_oldest()
        self._waiting.append((self._pool.submit(self._write, write), size_bytes))

    def check(self) -> None:
        """Raises what has gone wrong so far."""
        while self._waiting and self._waiting[0][0].done():
            self._finish_oldest()

    def drain(self) -> None:
        """Waits until everything is written, and raises what went wrong."""
        while self._waiting:
            self._finish_oldest()

    def _finish_oldest(self) -> None:
        written, _ = self._waiting.popleft()
        written.result()

    def _write(self, write: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            write()
        except BaseException:
            self._failed = True
            raise
