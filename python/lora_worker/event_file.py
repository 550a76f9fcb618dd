"""A training for TensorBoard: event files in a folder, under the tags that sd-scripts gives to the same numbers.

They say again what `metrics.jsonl` and the pictures say, so nothing depends on them: what goes wrong with them is told
once, and costs nothing else. Rules:

- Each life of a training appends a file. It begins by saying from which step on it speaks, and TensorBoard forgets what
  earlier files said of these steps, so a training that went back to its newest state has each step once.
- A file is flushed to the system after each step, and to the disk before each state. What a kill leaves half written
  is the last record, at which TensorBoard stops reading that file.
- Steps count from 1; pictures of step 0 show what a training begins with.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from PIL import Image

from lora_worker.metrics import StepNumbers

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

# TensorBoard's checksum goes byte by byte, and a JPEG has a fifth of a PNG's bytes.
_JPEG_QUALITY = 92
_PREFIX = "events.out.tfevents."


class EventFile:
    """To be closed. `open_events` gives None in its place where there is no package to write it with."""

    def __init__(self, folder: Path, *, steps: int, warn: Callable[[str], None]) -> None:
        """Goes on after `steps` steps. Raises ImportError."""
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.plugins.image import metadata
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = event_pb2, summary_pb2
        self._image_metadata = metadata.create_summary_metadata
        self._record_writer = RecordWriter
        self._warn = warn
        self._file: BinaryIO | None = None
        self._is_broken = False
        self._trying(lambda: self._begin(folder, steps))

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """What is no number is left out."""
        numbers = {tag: value for tag, value in values.items() if value is not None}
        self._tell(step, [self._summary.Summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()])

    def picture(self, step: int, tag: str, path: str | PathLike[str], *, description: str) -> None:
        # The montage tells of one that cannot be read.
        with suppress(OSError):
            self._tell(step, [self._picture_value(tag, path, description)])

    def flush(self) -> None:
        """To the disk."""
        if self._file is not None:
            file = self._file
            self._trying(lambda: os.fsync(file.fileno()))

    def close(self) -> None:
        if self._file is not None:
            # What could not be written has been told.
            with suppress(OSError):
                self._file.close()
        self._file = None

    def _begin(self, folder: Path, steps: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads files in the order of their names.
        name = f"{_PREFIX}{time.time():.0f}.{_count(folder):04d}"
        self._file = open(folder / name, "xb")
        self._write(self._event.Event(wall_time=time.time(), file_version="brain.Event:2"))
        start = self._event.SessionLog(status=self._event.SessionLog.START)
        # 0 is forgotten as well, where nothing was done: its pictures are told anew.
        self._write(self._event.Event(wall_time=time.time(), step=steps + 1 if steps else 0, session_log=start))

    def _picture_value(self, tag: str, path: str | PathLike[str], description: str) -> Summary.Value:
        with Image.open(path) as picture:
            width, height = picture.size
            encoded = io.BytesIO()
            picture.convert("RGB").save(encoded, format="JPEG", quality=_JPEG_QUALITY)
        image = self._summary.Summary.Image(
            width=width, height=height, colorspace=3, encoded_image_string=encoded.getvalue()
        )
        return self._summary.Summary.Value(tag=tag, image=image, metadata=self._image_metadata(tag, description))

    def _tell(self, step: int, values: list[Summary.Value]) -> None:
        if self._file is None or not values:
            return
        summary = self._summary.Summary(value=values)
        event = self._event.Event(wall_time=time.time(), step=step, summary=summary)
        self._trying(lambda: self._write(event))

    def _write(self, event: Event) -> None:
        assert self._file is not None
        self._record_writer(self._file).write(event.SerializeToString())
        self._file.flush()

    def _trying(self, work: Callable[[], object]) -> None:
        if self._is_broken:
            return
        try:
            work()
        except OSError as error:
            # Half a record may be there, and nothing can be read behind it.
            self._is_broken = True
            self._warn(f"There is no more for TensorBoard of this training: {error}")


def open_events(folder: str | None, *, steps: int, warn: Callable[[str], None]) -> EventFile | None:
    """None where no folder is named, and where the package "tensorboard" is not there, which is told."""
    if folder is None:
        return None
    try:
        return EventFile(Path(folder), steps=steps, warn=warn)
    except ImportError as error:
        warn(f'Nothing is written for TensorBoard: {error}. The package "tensorboard" would be needed for that.')
        return None


def _count(folder: Path) -> int:
    return sum(1 for path in folder.iterdir() if path.name.startswith(_PREFIX))


# By the components of learning rates and norms.
_SD_SCRIPTS = {"text_encoder": "textencoder", "unet": "unet"}
_KEY_NORMS = {
    "keys_scaled": "max_norm/keys_scaled",
    "average_key_norm": "norm/avg_key_norm",
    "max_key_norm": "max_norm/max_key_norm",
}
HELD_OUT = "loss/validation/step_average"


def step_scalars(numbers: StepNumbers, average_loss: float | None) -> dict[str, float | None]:
    """What is told of a step, by tags: sd-scripts' for what it tells as well."""
    peak = numbers.gpu_memory_peak_bytes
    return {
        "loss/current": numbers.loss,
        "loss/average": average_loss,
        **{f"lr/{_SD_SCRIPTS[name]}": rate for name, rate in numbers.learning_rates.items()},
        "norm/grad_norm": numbers.grad_norm,
        **{f"norm/update_norm/{_SD_SCRIPTS[name]}": norm for name, norm in numbers.update_norms.items()},
        **{_KEY_NORMS[name]: value for name, value in numbers.key_norms.items()},
        "speed/images_per_second": numbers.images_per_second,
        "speed/seconds_per_step": numbers.seconds,
        "memory/gpu_peak_gb": None if peak is None else peak / 1e9,
    }
