"""What a training does to its prompts, to be looked at: a sheet with a row for each prompt and a column for each step,
and a film with all prompts in each frame and a frame for each step.

Both follow from the pictures and the labels, down to the bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike

from PIL import Image

from lora_worker.contact_sheet import GROUND, Cell, Sheet, draw_sheet
from lora_worker.job import Job
from lora_worker.pictures import save_png
from lora_worker.whole_file import whole_file

# More columns are wider than a screen shows, more frames longer than one looks at.
MOST_COLUMNS = 12
MOST_FRAMES = 100

_FRAMES_SIDE_BY_SIDE = 4
_FRAME_CELL = 320
_FRAME_MS, _LAST_FRAME_MS = 400, 2000
_WEBP_QUALITY = 85


@dataclass(frozen=True)
class Shown:
    """The picture of a prompt after a step. `row` is the number of the prompt, from 0."""

    step: int
    row: int
    picture: str


@dataclass(frozen=True)
class Montage:
    """`labels` stand beside the rows, one for each prompt."""

    labels: tuple[str, ...]
    pictures: tuple[Shown, ...]

    @property
    def steps(self) -> list[int]:
        return sorted({shown.step for shown in self.pictures})


def save_montage(montage: Montage, path: str | PathLike[str], job: Job) -> None:
    """A PNG. Raises `bad-input` for pictures that cannot be read, and for more rows than a sheet has room for."""
    steps = thinned(montage.steps, MOST_COLUMNS)
    columns = {step: column for column, step in enumerate(steps)}
    cells = [
        Cell(shown.row, columns[shown.step], shown.picture, None, "")
        for shown in montage.pictures
        if shown.step in columns
    ]
    sheet = Sheet("", tuple(f"step {step}" for step in steps), montage.labels, tuple(cells))
    save_png(draw_sheet(sheet, job), path)


def save_animation(montage: Montage, path: str | PathLike[str], job: Job) -> None:
    """A WebP that repeats. Raises as `save_montage`."""
    steps = thinned(montage.steps, MOST_FRAMES)
    # Of one size, though a step may lack a picture.
    frames = _alike(draw_sheet(_frame(montage, step), job, biggest_cell=_FRAME_CELL) for step in steps)
    durations = [_FRAME_MS] * (len(frames) - 1) + [_LAST_FRAME_MS]
    with whole_file(path) as file:
        frames[0].save(
            file,
            format="WEBP",
            save_all=True,
            append_images=frames[1:],
            duration=durations,
            loop=0,
            quality=_WEBP_QUALITY,
        )


def thinned(steps: Sequence[int], most: int) -> list[int]:
    """At most so many (2 or more), the first and the last among them, as evenly spread as their numbers allow."""
    if len(steps) <= most:
        return list(steps)
    return [steps[round(place * (len(steps) - 1) / (most - 1))] for place in range(most)]


def _frame(montage: Montage, step: int) -> Sheet:
    """A few prompts in each row, and their labels below them."""
    count = len(montage.labels)
    rows = math.ceil(count / _FRAMES_SIDE_BY_SIDE)
    columns = math.ceil(count / rows)
    cells = [
        Cell(*divmod(shown.row, columns), shown.picture, None, montage.labels[shown.row])
        for shown in montage.pictures
        if shown.step == step
    ]
    return Sheet(f"step {step}", ("",) * columns, ("",) * rows, tuple(cells))


def _alike(frames: Iterable[Image.Image]) -> list[Image.Image]:
    listed = list(frames)
    size = (max(frame.width for frame in listed), max(frame.height for frame in listed))
    return [frame if frame.size == size else _extended(frame, size) for frame in listed]


def _extended(frame: Image.Image, size: tuple[int, int]) -> Image.Image:
    page = Image.new("RGB", size, GROUND)
    page.paste(frame, (0, 0))
    return page
