"""A contact sheet: pictures in columns and rows with labels, and heat maps of what changed.

    title
                 column    column
    row label    picture   picture
                 caption   caption
                 heat      heat
    scale of the heat maps

The ground is a dark grey: pictures are judged best on it, and it suits viewers of any brightness. Everything follows
from the pictures and the labels, down to the bytes. However much there is to show, a sheet stays small enough for
viewers to open: cells shrink, and labels are cut to fit them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lora_worker.errors import bad_input
from lora_worker.heat import heat_map, round_maximum, scale_bar
from lora_worker.job import Job
from lora_worker.pictures import difference, picture_size, read_picture, same_size
from lora_worker.sheet_text import font, line_height, wrapped

GROUND, _TEXT, _FAINT = "#2a2b2e", "#f0f0f0", "#b4b5b8"
_MARGIN, _GAP, _NEAR = 24, 14, 6
_BIGGEST_CELL, _SMALLEST_CELL = 384, 16
# Smaller pictures, as toy checkpoints give, are enlarged by whole numbers.
_SMALL_PICTURE = 192
_MOST_SIDE, _MOST_PIXELS = 16_000, 2**26
_LABEL_WIDTH, _LABEL_LINES, _HEAD_LINES, _CAPTION_LINES = 240, 12, 3, 2
# One column for each colour.
_BAR = (256, 14)

Size = tuple[int, int]
"""Width, height."""


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


def draw_sheet(sheet: Sheet, job: Job, biggest_cell: int = _BIGGEST_CELL) -> Image.Image:
    """The picture of a sheet, with cells of at most so many pixels on a side.

    Raises `bad-input` for pictures that cannot be read, or compared.
    """
    sizes = {cell: picture_size(cell.picture) for cell in sheet.cells}
    layout = _fitting_layout(sheet, sizes, biggest_cell)
    page = Image.new("RGB", layout.size, GROUND)
    pen = ImageDraw.Draw(page)
    layout.draw_labels(pen)
    heat: dict[Cell, NDArray[np.float32]] = {}
    # Rows are often compared with one picture.
    reread = lru_cache(maxsize=4)(read_picture)
    for done, cell in enumerate(sheet.cells):
        job.check_cancelled()
        job.progress(done, len(sheet.cells), "pictures")
        picture = read_picture(cell.picture)
        page.paste(_resized(picture, layout.shown[cell]), layout.place(cell))
        if cell.compared is not None:
            other = reread(cell.compared)
            same_size(picture, cell.picture, other, cell.compared)
            heat[cell] = _resized_values(difference(picture, other), layout.shown[cell])
    if heat:
        # A few pixels that changed most would otherwise leave all others dark.
        largest = max(float(np.quantile(values, 0.995)) for values in heat.values())
        maximum = round_maximum(largest)
        for cell, values in heat.items():
            page.paste(heat_map(values, maximum), layout.place_of_heat(cell))
        is_cut = any(float(values.max()) > maximum for values in heat.values())
        layout.draw_scale(page, pen, f"{maximum:g} and more" if is_cut else f"{maximum:g}")
    job.progress(len(sheet.cells), len(sheet.cells), "pictures")
    return page


class _Layout:
    """Where everything stands when cells are at most `side` pixels wide and high."""

    def __init__(self, sheet: Sheet, sizes: dict[Cell, Size], side: int) -> None:
        self.sheet = sheet
        largest = max(max(size) for size in sizes.values())
        self.shown = {cell: _shown_size(size, largest, side) for cell, size in sizes.items()}
        width = self._cell_width = max(size[0] for size in self.shown.values())
        self._text_size = text = max(11, min(18, width // 16))
        self._title_size = round(text * 1.6)
        self._heads = [wrapped(head, text, width, _HEAD_LINES) for head in sheet.columns]
        self._captions = {cell: wrapped(cell.caption, text, width, _CAPTION_LINES) for cell in sheet.cells}
        row_heights = [self._highest(cell for cell in sheet.cells if cell.row == row) for row in range(len(sheet.rows))]
        self._labels = [
            wrapped(label, text, _LABEL_WIDTH, max(1, min(_LABEL_LINES, height // line_height(text))))
            for label, height in zip(sheet.rows, row_heights, strict=True)
        ]
        label_width = max((_width(line, text) for label in self._labels for line in label), default=0)
        self._left = _MARGIN + (label_width + 2 * _GAP if label_width else 0)
        content = self._left + len(sheet.columns) * (width + _GAP) - _GAP + _MARGIN
        self._title = wrapped(sheet.title, self._title_size, max(content, 640) - 2 * _MARGIN, 2)
        title_width = max((_width(line, self._title_size) for line in self._title), default=0)
        has_heat = any(cell.compared for cell in sheet.cells)
        self._legend = wrapped(_LEGEND, text, max(content - 2 * _MARGIN, 480), 3) if has_heat else ()
        legend_width = max((_width(line, text) for line in self._legend), default=0)
        page_width = max(content, max(title_width, legend_width) + 2 * _MARGIN)

        y = _MARGIN
        if self._title:
            y += len(self._title) * line_height(self._title_size) + _GAP
        head_lines = max((len(head) for head in self._heads), default=0)
        self._head_bottom = y + head_lines * line_height(text)
        y = self._head_bottom + (_NEAR if head_lines else 0)
        self._tops: list[int] = []
        self._caption_tops: list[int] = []
        self._heat_tops: list[int] = []
        for row, height in enumerate(row_heights):
            cells = [cell for cell in sheet.cells if cell.row == row]
            self._tops.append(y)
            captions = max((len(self._captions[cell]) for cell in cells), default=0)
            self._caption_tops.append(y + height + _NEAR)
            y += height + (captions * line_height(text) + _NEAR if captions else 0)
            self._heat_tops.append(y + _NEAR)
            if any(cell.compared for cell in cells):
                y += _NEAR + height
            y += 2 * _GAP
        self._bar_top = y
        y += (1 + len(self._legend)) * line_height(text) if has_heat else -2 * _GAP
        self.size: Size = (page_width, y + _MARGIN)

    def place(self, cell: Cell) -> tuple[int, int]:
        """Left and top of its picture."""
        return self._centred(cell), self._tops[cell.row]

    def place_of_heat(self, cell: Cell) -> tuple[int, int]:
        return self._centred(cell), self._heat_tops[cell.row]

    def draw_labels(self, pen: ImageDraw.ImageDraw) -> None:
        """Everything but the scale."""
        text, step = self._text_size, line_height(self._text_size)
        _draw_lines(pen, self._title, _MARGIN, _MARGIN, self._title_size, _TEXT)
        for column, head in enumerate(self._heads):
            middle = self._column(column) + self._cell_width // 2
            _draw_lines(pen, head, middle, self._head_bottom - len(head) * step, text, _TEXT, centred=True)
        for row, label in enumerate(self._labels):
            _draw_lines(pen, label, _MARGIN, self._tops[row], text, _TEXT)
        for cell, caption in self._captions.items():
            middle = self._column(cell.column) + self._cell_width // 2
            _draw_lines(pen, caption, middle, self._caption_tops[cell.row], text, _FAINT, centred=True)

    def draw_scale(self, page: Image.Image, pen: ImageDraw.ImageDraw, end: str) -> None:
        text = self._text_size
        x, middle = _MARGIN, self._bar_top + line_height(text) // 2
        _draw_lines(pen, ("0",), x, self._bar_top, text, _FAINT)
        x += _width("0", text) + _NEAR
        page.paste(scale_bar(*_BAR), (x, middle - _BAR[1] // 2))
        _draw_lines(pen, (end,), x + _BAR[0] + _NEAR, self._bar_top, text, _FAINT)
        _draw_lines(pen, self._legend, _MARGIN, self._bar_top + line_height(text), text, _FAINT)

    def _highest(self, cells: Iterable[Cell]) -> int:
        return max((self.shown[cell][1] for cell in cells), default=line_height(self._text_size))

    def _column(self, column: int) -> int:
        return self._left + column * (self._cell_width + _GAP)

    def _centred(self, cell: Cell) -> int:
        return self._column(cell.column) + (self._cell_width - self.shown[cell][0]) // 2


_LEGEND = (
    "Heat: how far each pixel is from the picture compared with, root mean square of its channels (1: black to white)."
)


def _fitting_layout(sheet: Sheet, sizes: dict[Cell, Size], biggest_cell: int = _BIGGEST_CELL) -> _Layout:
    """With the largest cells that a sheet has room for. Raises `bad-input` where it has none."""
    side = biggest_cell
    while side >= _SMALLEST_CELL:
        layout = _Layout(sheet, sizes, side)
        width, height = layout.size
        too_large = max(max(width, height) / _MOST_SIDE, (width * height / _MOST_PIXELS) ** 0.5)
        if too_large <= 1:
            return layout
        # Labels and gaps do not shrink with the cells, so this is never too far.
        side = min(side - 1, int(side / too_large))
    raise bad_input(
        f"{len(sheet.columns)} columns and {len(sheet.rows)} rows are too many for one sheet.",
        hint="Make several sheets, each of fewer prompts or LoRAs.",
    )


def _shown_size(size: Size, largest: int, side: int) -> Size:
    """All pictures of a sheet are shown at one scale."""
    if largest <= _SMALL_PICTURE and 2 * largest <= side:
        factor = side // largest
        return size[0] * factor, size[1] * factor
    scale = min(1.0, side / largest)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _resized(picture: Image.Image, size: Size) -> Image.Image:
    if size == picture.size:
        return picture
    grows = size[0] > picture.width
    return picture.resize(size, Image.Resampling.NEAREST if grows else Image.Resampling.LANCZOS)


def _resized_values(values_HW: NDArray[np.float32], size: Size) -> NDArray[np.float32]:
    picture = Image.fromarray(values_HW)
    grows = size[0] > picture.width
    resized = picture.resize(size, Image.Resampling.NEAREST if grows else Image.Resampling.BOX)
    return np.asarray(resized, dtype=np.float32)


def _draw_lines(
    pen: ImageDraw.ImageDraw, lines: tuple[str, ...], x: int, y: int, size: int, colour: str, *, centred: bool = False
) -> None:
    for index, line in enumerate(lines):
        left = x - _width(line, size) // 2 if centred else x
        pen.text((left, y + index * line_height(size)), line, fill=colour, font=font(size))


def _width(line: str, size: int) -> int:
    return int(np.ceil(font(size).getlength(line)))
