"""From an exception to the failure that the CLI is told: a kind, a sentence, and what to do."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lora_worker.errors import WorkerError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT) if hasattr(errno, "EDQUOT") else (errno.ENOSPC,)


def failure_of(error: BaseException, work: Mapping[str, Any]) -> dict[str, Any]:
    """The `failure` field of the answer. Only what is our own mistake puts a traceback on stderr."""
    known = error if isinstance(error, WorkerError) else _recognized(error, work)
    if known is None:
        traceback.print_exception(error, file=sys.stderr)
        known = WorkerError("internal", f"The worker met an unexpected {type(error).__name__}: {error}")
    return {
        "kind": known.kind,
        "message": known.message,
        "hint": known.hint,
        "problems": [asdict(problem) for problem in known.problems],
    }


def _recognized(error: BaseException, work: Mapping[str, Any]) -> WorkerError | None:
    if _is_out_of_memory(error):
        return WorkerError(
            "out-of-memory",
            "There is not enough memory for this.",
            "Close other programs that use the device, or choose a smaller batch_size, "
            "gradient_checkpointing = on, or a smaller resolution.",
        )
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        return _out_of_space(error, work)
    if isinstance(error, OSError) and error.filename is not None:
        path = os.fsdecode(error.filename) if not isinstance(error.filename, int) else str(error.filename)
        reason = error.strerror or type(error).__name__
        return WorkerError("bad-input", f'"{path}": {reason}.')
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    if "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    # Not at the top: it imports torch, which takes seconds, and may be what is missing.
    from lora_worker.device_memory import is_out_of_memory

    return is_out_of_memory(error)


def _out_of_space(error: OSError, work: Mapping[str, Any]) -> WorkerError:
    path = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else output_folder(work)
    folder = path if os.path.isdir(path) else os.path.dirname(path) or "."
    try:
        free = f"; {shutil.disk_usage(folder).free / 2**20:,.0f} MiB are free there"
    except OSError:
        free = ""
    return WorkerError(
        "out-of-space",
        f'The disk is full: "{path}" could not be written{free}.',
        "Free some space, or point LORAC_STORE at a larger disk; what is finished is kept.",
    )


def output_folder(work: Mapping[str, Any]) -> str:
    """The folder that a request writes to, or nothing where none is named."""
    if isinstance(work.get("work"), str):
        return work["work"]
    items = work.get("items")
    if isinstance(items, list) and items and isinstance(items[0], dict):
        return os.path.dirname(str(items[0].get("output", "")))
    written = "factors" if work.get("op") == "decompose" else "output"
    return os.path.dirname(str(work.get(written, "")))
