"""One request, as a stage sees it: a place to say how it goes, and to hear that it should stop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from os import PathLike
from typing import Literal

from lora_worker.errors import Cancelled


class Job(ABC):
    """The worker's own speaks to the pipe; tests have one that records."""

    @abstractmethod
    def progress(self, done: int, total: int, unit: str, note: str | None = None) -> None:
        """So much of the work is done. `unit` is a plural noun: "images", "modules"."""

    @abstractmethod
    def step(
        self,
        step: int,
        total: int,
        loss: float,
        learning_rates: Mapping[str, float],
        grad_norm: float,
        seconds: float,
    ) -> None:
        """One optimizer step is done (1-based). Rates by group: `unet`, `text_encoder`."""

    @abstractmethod
    def artifact(self, name: str, path: str | PathLike[str]) -> None:
        """A file is complete, flushed and under its final name."""

    @abstractmethod
    def log(self, level: Literal["info", "warning"], message: str) -> None:
        """A sentence for the user."""

    @property
    @abstractmethod
    def cancelled(self) -> bool:
        """Whether the CLI has asked to stop. Never goes back to false."""

    def check_cancelled(self) -> None:
        """Raises `Cancelled` once the CLI has asked to stop. Call it between pieces of work."""
        if self.cancelled:
            raise Cancelled


class QuietJob(Job):
    """Tells nobody how it goes. What it has to say besides, and whether it should stop, is for its kinds to know."""

    def progress(self, done: int, total: int, unit: str, note: str | None = None) -> None: ...

    def step(
        self,
        step: int,
        total: int,
        loss: float,
        learning_rates: Mapping[str, float],
        grad_norm: float,
        seconds: float,
    ) -> None: ...

    def artifact(self, name: str, path: str | PathLike[str]) -> None: ...
