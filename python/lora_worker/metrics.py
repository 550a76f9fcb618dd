"""What a training measured: one JSON object per line and optimizer step.

A line is flushed to the disk together with the state that follows it, so a training that goes on from a state finds
the lines of all steps before, drops those after it, and ends with the same lines as one that was never interrupted
(but for the seconds).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path


class MetricsFile:
    """Open for appending. Use `flush` before a state is written."""

    def __init__(self, path: Path, *, steps: int) -> None:
        """Keeps the first `steps` lines of a file that is there."""
        self.path = path
        kept = path.read_bytes().split(b"\n")[:steps] if path.exists() else []
        path.write_bytes(b"".join(line + b"\n" for line in kept if line))
        self._file = open(path, "a", encoding="ascii", buffering=1)  # line by line, for whoever looks on

    def append(
        self,
        *,
        step: int,
        epoch: int,
        loss: float,
        learning_rates: Mapping[str, float],
        grad_norm: float,
        seconds: float,
    ) -> None:
        """`step` counts from 1, `epoch` from 0; `grad_norm` is before clipping."""
        line = {
            "step": step,
            "epoch": epoch,
            "loss": loss,
            "learning_rates": dict(learning_rates),
            "grad_norm": grad_norm,
            "seconds": round(seconds, 3),
        }
        self._file.write(json.dumps(line, allow_nan=False) + "\n")

    def flush(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self.flush()
        self._file.close()
