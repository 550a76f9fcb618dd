"""One writer at a time in a work folder. The lock is the operating system's, so it dies with its holder.

When the CLI is killed its worker may live for a moment longer, and a new worker can already be at the same folder;
the second then waits for the first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lora_worker.job import Job

_POLL_SECONDS = 0.1


@contextmanager
def locked_folder(folder: str, job: Job) -> Iterator[None]:
    """Holds `folder`/worker.lock. Says so when it has to wait, and can be cancelled meanwhile."""
    descriptor = os.open(Path(folder, "worker.lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _try_lock(descriptor):
            job.log("info", f'Waiting for another worker that still writes to "{folder}".')
            while not _try_lock(descriptor):
                job.check_cancelled()
                time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    if os.name == "nt":
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
