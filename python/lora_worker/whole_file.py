"""Files that appear whole: written beside their final name, flushed to the disk, then renamed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from typing import Any, BinaryIO


@contextmanager
def whole_file(path: str | PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write to. It gets its name, replacing what had it, when the block ends without an error.

    With an error what was written is gone, and so is the room that it took.
    """
    target = os.fspath(path)
    partial = f"{target}.partial"
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        with suppress(OSError):
            os.remove(partial)
        if isinstance(error, OSError) and error.filename is None:
            # A write that fails knows only a number.
            error.filename = target
        raise
    os.replace(partial, target)
    flush_folder(os.path.dirname(target) or ".")


def write_json(path: str | PathLike[str], value: Any) -> None:
    """Compact JSON with sorted keys, so that equal values give equal bytes. Refuses what JSON cannot say."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    with whole_file(path) as file:
        file.write(f"{text}\n".encode())


def flush_folder(folder: str) -> None:
    """Makes a rename in the folder last through a power cut, where the system has a way to ask for that."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
