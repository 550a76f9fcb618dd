"""A contact sheet: pictures in columns and rows."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from lora_worker.job import Job
from lora_worker.pictures import read_picture


@dataclass(frozen=True)
class Cell:
    """`row` and `column` count from 0. `compared` is a picture of the same size, whose difference is shown."""

    row: int
    column: int
    picture: str
    compared: str | None
    caption: str


@dataclass(frozen=True)
class Sheet:
    title: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    cells: tuple[Cell, ...]


def draw_sheet(sheet: Sheet, job: Job) -> Image.Image:
    side = 384
    page = Image.new("RGB", (side * len(sheet.columns), 24 + (side + 24) * len(sheet.rows)), "white")
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(16)
    draw.text((4, 2), sheet.title, fill="black", font=font)
    for done, cell in enumerate(sheet.cells):
        job.check_cancelled()
        job.progress(done, len(sheet.cells), "pictures")
        picture = read_picture(cell.picture)
        picture.thumbnail((side, side))
        left, top = side * cell.column, 24 + (side + 24) * cell.row
        page.paste(picture, (left, top))
        draw.text((left + 4, top + side), cell.caption, fill="black", font=font)
    job.progress(len(sheet.cells), len(sheet.cells), "pictures")
    return page
