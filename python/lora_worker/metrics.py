"""What a training measured: one JSON object per line and optimizer step, and one for each time that held-out images
were measured, behind that of its step.

A line is flushed to the disk together with the state that follows it, so a training that goes on from a state finds
the lines of all steps before, drops those after it, and ends with the same lines as one that was never interrupted
(but for what was measured with a clock). docs/training.md has the fields.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lora_worker.whole_file import whole_file


@dataclass(frozen=True)
class StepNumbers:
    """What there is to tell of one step. `step` counts from 1, `epoch` from 0.

    Loss and norms are None for a step that was skipped: they are no numbers. `grad_norm` is before clipping, and rates
    and `update_norms` are by component. `key_norms`: what there is to tell of the lengths that weights are kept to.
    """

    step: int
    epoch: int
    loss: float | None
    learning_rates: Mapping[str, float]
    grad_norm: float | None
    update_norms: Mapping[str, float | None]
    images: int
    seconds: float
    gpu_memory_peak_bytes: int | None = None
    """The most that was ever allocated on a GPU by PyTorch in this life of the worker."""
    key_norms: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def images_per_second(self) -> float | None:
        return self.images / self.seconds if self.seconds > 0 else None


class MetricsFile:
    """Open for appending. Use `flush` before a state is written."""

    def __init__(self, path: Path, *, steps: int, epoch_steps: int = 1) -> None:
        """Keeps the lines of the first `steps` steps of a file that is there. `epoch_steps`: steps of an epoch."""
        self.path = path
        self._losses: deque[float] = deque(maxlen=epoch_steps)
        self.held_out: dict[int, float] = {}
        """What was measured with held-out images, by step."""
        kept = list(self._lines_up_to(steps))
        with whole_file(path) as file:
            file.write(b"".join(line + b"\n" for line in kept))
        self._file = open(path, "a", encoding="ascii", buffering=1)  # line by line, for whoever looks on

    def append(self, numbers: StepNumbers) -> None:
        speed, peak = numbers.images_per_second, numbers.gpu_memory_peak_bytes
        line = {
            "step": numbers.step,
            "epoch": numbers.epoch,
            "loss": numbers.loss,
            "learning_rates": dict(numbers.learning_rates),
            "grad_norm": numbers.grad_norm,
            "update_norms": dict(numbers.update_norms),
            "seconds": round(numbers.seconds, 3),
            "images_per_second": None if speed is None else round(speed, 3),
            **({} if peak is None else {"gpu_memory_peak_bytes": peak}),
            **numbers.key_norms,
        }
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        if numbers.loss is not None:
            self._losses.append(numbers.loss)

    @property
    def average_loss(self) -> float | None:
        """Over the last epoch's worth of steps, those of an interrupted life among them."""
        return sum(self._losses) / len(self._losses) if self._losses else None

    def append_held_out(self, *, step: int, loss: float) -> None:
        self.held_out[step] = loss
        self._file.write(json.dumps({"step": step, "held_out_loss": loss}, allow_nan=False) + "\n")

    def flush(self) -> None:
        """May be called from another thread: each line is in the system's hands once it is told."""
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
            elif told.get("loss") is not None:
                self._losses.append(told["loss"])
            yield line

    def close(self) -> None:
        self.flush()
        self._file.close()
