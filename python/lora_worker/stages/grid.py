"""Many pictures as one, labelled, for people to look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lora_worker.contact_sheet import Cell, Sheet, draw_sheet
from lora_worker.job import Job
from lora_worker.pictures import save_png
from lora_worker.protocol import Fields, ProtocolError


@dataclass(frozen=True)
class Grid:
    sheet: Sheet
    output: str


def parse(fields: Mapping[str, Any]) -> Grid:
    work = Fields(dict(fields), "work")
    sheet = Sheet(
        title=work.text("title"),
        columns=work.text_list("columns"),
        rows=work.text_list("rows"),
        cells=work.records("cells", _cell),
    )
    places = [(cell.row, cell.column) for cell in sheet.cells]
    if not all(0 <= row < len(sheet.rows) and 0 <= column < len(sheet.columns) for row, column in places):
        raise ProtocolError('"work.cells" has a cell outside of the rows and columns')
    if len(set(places)) < len(places):
        raise ProtocolError('"work.cells" has two cells in one place')
    if not sheet.cells:
        raise ProtocolError('"work.cells" must have a cell')
    return Grid(sheet, work.text("output"))


def run(work: Grid, job: Job) -> dict[str, str]:
    save_png(draw_sheet(work.sheet, job), work.output)
    return {"grid": work.output}


def _cell(fields: Fields) -> Cell:
    return Cell(
        row=fields.whole("row"),
        column=fields.whole("column"),
        picture=fields.text("picture"),
        compared=fields.optional_text("compared"),
        caption=fields.text("caption"),
    )
