"""What several test files share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike, fspath
from typing import Any, Literal

from lora_worker.job import Job


@dataclass
class RecordingJob(Job):
    """A job without a pipe: keeps what the stage says, in order, as (type, fields).

    `cancel_after_steps` makes it cancelled once that many optimizer steps were told;
    `cancel()` does so at once.
    """

    cancel_after_steps: int | None = None
    messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    _cancelled: bool = False

    def progress(self, done: int, total: int, unit: str, note: str | None = None) -> None:
        self.messages.append(("progress", {"done": done, "total": total, "unit": unit, "note": note}))

    def step(
        self,
        step: int,
        total: int,
        loss: float,
        learning_rates: Mapping[str, float],
        grad_norm: float,
        seconds: float,
    ) -> None:
        self.messages.append(
            (
                "step",
                {
                    "step": step,
                    "total": total,
                    "loss": loss,
                    "learning_rates": dict(learning_rates),
                    "grad_norm": grad_norm,
                    "seconds": seconds,
                },
            )
        )
        if self.cancel_after_steps is not None and len(self.of_type("step")) >= self.cancel_after_steps:
            self._cancelled = True

    def artifact(self, name: str, path: str | PathLike[str]) -> None:
        self.messages.append(("artifact", {"name": name, "path": fspath(path)}))

    def log(self, level: Literal["info", "warning"], message: str) -> None:
        self.messages.append(("log", {"level": level, "message": message}))

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def cancel(self) -> None:
        self._cancelled = True

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """The fields of every message of one type, oldest first."""
        return [fields for type_, fields in self.messages if type_ == kind]

    @property
    def warnings(self) -> list[str]:
        return [fields["message"] for fields in self.of_type("log") if fields["level"] == "warning"]
