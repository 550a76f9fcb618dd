"""The job of the bench: keeps when a stage said what, and tells it on stderr, where somebody waits."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Literal

from lora_worker.job import QuietJob


class TimedJob(QuietJob):
    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.steps: list[float] = []
        """The seconds of each step that the stage told, in order."""
        self.first_step_at: float | None = None
        self.ready_at: float | None = None
        """When the first progress came that is not about loading."""
        self.loss: float | None = None
        self.warnings: list[str] = []
        self._told = 0.0

    def progress(self, done: int, total: int, unit: str, note: str | None = None) -> None:
        if self.ready_at is None and note != "loading the checkpoint":
            self.ready_at = time.perf_counter()
        self._tell(f"{done} of {total} {unit}{f': {note}' if note else ''}")

    def step(
        self,
        step: int,
        total: int,
        loss: float,
        learning_rates: Mapping[str, float],
        grad_norm: float,
        seconds: float,
    ) -> None:
        if self.first_step_at is None:
            self.first_step_at = time.perf_counter()
        self.steps.append(seconds)
        self.loss = loss
        self._tell(f"step {step} of {total}: loss {loss:.4f}, {seconds:.2f} s", always=step in (1, total))

    def log(self, level: Literal["info", "warning"], message: str) -> None:
        if level == "warning":
            self.warnings.append(message)
        self._tell(message, always=True)

    @property
    def cancelled(self) -> bool:
        return False

    def _tell(self, what: str, *, always: bool = False) -> None:
        """Once a second at most: a terminal has better things to do."""
        now = time.perf_counter()
        if always or now - self._told > 1:
            print(what, file=sys.stderr, flush=True)
            self._told = now
