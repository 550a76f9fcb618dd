"""The montage and the film of a training's pictures, drawn anew after each round of them while the training goes on."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from lora_worker.errors import Cancelled, WorkerError
from lora_worker.job import Job, QuietJob
from lora_worker.montage import Montage, save_animation, save_montage


class TrainingMontage:
    """Owns `montage.png` and `animation.webp` in the work folder, and a thread, so that the training does not wait.

    They are extras: what goes wrong with them is told once, and costs nothing else. To be closed.
    """

    def __init__(self, folder: Path, job: Job) -> None:
        self._montage, self._animation = folder / "montage.png", folder / "animation.webp"
        self._job = job
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="montage")
        self._newest: Future[None] | None = None
        self._silence = _Silence()
        self._has_complained = False

    def update(self, montage: Montage) -> None:
        """Draws these soon. What was to be drawn before, and has not begun, is out of date."""
        if self._newest is not None:
            self._newest.cancel()
        self._newest = self._thread.submit(self._draw, montage)

    def finish(self) -> None:
        """Waits until the newest pictures are in."""
        if self._newest is not None:
            self._newest.result()

    def close(self) -> None:
        """Ends what is being drawn, between two pictures."""
        self._silence.is_over = True
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _draw(self, montage: Montage) -> None:
        try:
            save_montage(montage, self._montage, self._silence)
            self._job.artifact("montage", self._montage)
            save_animation(montage, self._animation, self._silence)
            self._job.artifact("animation", self._animation)
        except Cancelled:
            return
        except Exception as error:
            # Whatever it is, such as a Pillow without WebP: a training does not end for the sake of a picture.
            if not self._has_complained:
                self._has_complained = True
                why = str(error) if isinstance(error, WorkerError | OSError) else f"{type(error).__name__}: {error}"
                self._job.log("warning", f"The montage of the training could not be drawn: {why}")


class _Silence(QuietJob):
    """Steps are what this training tells, not the cells of a sheet."""

    is_over = False

    def log(self, level: Literal["info", "warning"], message: str) -> None:
        pass

    @property
    def cancelled(self) -> bool:
        return self.is_over
