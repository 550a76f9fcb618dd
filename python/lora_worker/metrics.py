"""What a training measured: one JSON object per line and optimizer step, and one for each time that held-out images
were measured, behind that of its step.

A line is flushed to the disk together with the state that follows it, so a training that goes on from a state finds
the lines of all steps before, drops those after it, and ends with the same lines as one that was never interrupted
(but for the seconds).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path


class MetricsFile:
    """Open for appending. Use `flush` before a state is written."""

    def __init__(self, path: Path, *, steps: int) -> None:
        """Keeps the lines of the first `steps` steps of a file that is there."""
        self.path = path
        self.held_out: dict[int, float] = {}
        """What was measured with held-out images, by step."""
        kept = list(self._lines_up_to(steps))
        path.write_bytes(b"".join(line + b"\n" for line in kept))
        self._file = open(path, "a", encoding="ascii", buffering=1)  # line by line, for whoever looks on

    def append(
        self,
        *,
        step: int,
        epoch: int,
        loss: float | None,
        learning_rates: Mapping[str, float],
        grad_norm: float | None,
        seconds: float,
        key_norms: Mapping[str, float | None] | None = None,
    ) -> None:
        """`step` counts from 1, `epoch` from 0; `grad_norm` is before clipping. A skipped step has no numbers.

        `key_norms`: what there is to tell of the lengths that weights are kept to.
        """
        line = {
            "step": step,
            "epoch": epoch,
            "loss": loss,
            "learning_rates": dict(learning_rates),
            "grad_norm": grad_norm,
            "seconds": round(seconds, 3),
            **(key_norms or {}),
        }
        self._file.write(json.dumps(line, allow_nan=False) + "\n")

    def append_held_out(self, *, step: int, loss: float) -> None:
        self.held_out[step] = loss
        self._file.write(json.dumps({"step": step, "held_out_loss": loss}, allow_nan=False) + "\n")

    def flush(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def _lines_up_to(self, steps: int) -> Iterator[bytes]:
        for line in self.path.read_bytes().split(b"\n") if self.path.exists() else ():
            try:
                told = json.loads(line)
            except ValueError:
                # Half written: nothing that belongs to a state follows.
                return
            if told["step"] > steps:
                return
            if "held_out_loss" in told:
                self.held_out[told["step"]] = told["held_out_loss"]
            yield line

    def close(self) -> None:
        self.flush()
        self._file.close()
