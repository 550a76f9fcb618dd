"""Contact sheets show every picture whole and in its place, labelled, at one scale, and stay small enough to open."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from support import RecordingJob

from lora_worker.contact_sheet import Cell, Sheet, _fitting_layout, draw_sheet
from lora_worker.errors import Cancelled, WorkerError
from lora_worker.heat import PALETTE, round_maximum
from lora_worker.protocol import ProtocolError
from lora_worker.sheet_text import drawable, font, wrapped
from lora_worker.stages.grid import parse, run


def solid(folder, colour, size=(300, 200)):
    path = folder / f"{'-'.join(map(str, (*colour, *size)))}.png"
    Image.new("RGB", size, colour).save(path)
    return str(path)


def area(page, colour):
    """Where a colour is: left, top, right, bottom, and whether it fills all of that."""
    places = np.argwhere((np.asarray(page) == colour).all(axis=2))
    (top, left), (bottom, right) = places.min(axis=0), places.max(axis=0) + 1
    return left, top, right, bottom, len(places) == (bottom - top) * (right - left)


def long_labels(cells):
    return Sheet(
        title="A title " * 40,
        columns=("a column with a head that is long enough for three lines of text and then some more",) * 3,
        rows=("a prompt, " * 200, "短い", ""),
        cells=cells,
    )


COLOURS = {(row, column): (40 + 60 * row, 20 + 70 * column, 200) for row in range(3) for column in range(3)}


def test_every_picture_stands_whole_in_its_column_and_row_and_no_label_covers_it(tmp_path):
    cells = tuple(
        Cell(row, column, solid(tmp_path, colour), None, "a caption that goes on and on " * 3)
        for (row, column), colour in COLOURS.items()
    )
    page = draw_sheet(long_labels(cells), RecordingJob())
    found = {place: area(page, colour) for place, colour in COLOURS.items()}
    for left, top, right, bottom, is_whole in found.values():
        assert (right - left, bottom - top, is_whole) == (300, 200, True)
    for row in range(3):
        assert len({found[row, column][1] for column in range(3)}) == 1
        assert len({found[column, row][0] for column in range(3)}) == 1
        assert found[row, 0][2] < found[row, 1][0] and found[row, 1][2] < found[row, 2][0]
    # Two lines of caption are between the rows.
    assert all(found[row, 0][3] + 30 < found[row + 1, 0][1] for row in range(2))


def test_pictures_of_several_sizes_are_shown_at_one_scale(tmp_path):
    wide, tall = solid(tmp_path, (200, 0, 0), (1216, 832)), solid(tmp_path, (0, 200, 0), (832, 1216))
    sheet = Sheet("", ("a",), ("", ""), (Cell(0, 0, wide, None, ""), Cell(1, 0, tall, None, "")))
    page = draw_sheet(sheet, RecordingJob())
    one, other = area(page, (200, 0, 0)), area(page, (0, 200, 0))
    assert (one[2] - one[0], one[3] - one[1]) == (384, 263)
    assert (other[2] - other[0], other[3] - other[1]) == (263, 384)
    assert one[0] + one[2] - other[0] - other[2] in (-1, 0, 1)


def test_toy_pictures_are_enlarged_by_whole_numbers(tmp_path):
    path = solid(tmp_path, (9, 200, 9), (64, 96))
    page = draw_sheet(Sheet("", ("a",), ("",), (Cell(0, 0, path, None, ""),)), RecordingJob())
    left, top, right, bottom, is_whole = area(page, (9, 200, 9))
    assert (right - left, bottom - top, is_whole) == (256, 384, True)


def test_heat_maps_stand_below_and_have_one_scale(tmp_path):
    base = solid(tmp_path, (100, 100, 100))
    some, more = solid(tmp_path, (110, 110, 110)), solid(tmp_path, (150, 150, 150))
    cells = (Cell(0, 0, base, None, ""), Cell(0, 1, some, base, "a"), Cell(0, 2, more, base, "b"))
    page = draw_sheet(Sheet("", ("", "", ""), ("",), cells), RecordingJob())
    maximum = round_maximum(50 / 255)
    assert maximum == 0.2
    for grey, step in ((110, 10), (150, 50)):
        left, _top, right, bottom, _ = area(page, (grey, grey, grey))
        colour = PALETTE[round(step / 255 / maximum * 255)]
        heat = np.asarray(page.crop((left, bottom + 1, right, page.height - 80)))
        assert (heat == colour).all(axis=2).sum() == 300 * 200
    # The scale runs through all colours, and no heat map is below what is compared with nothing.
    assert all((np.asarray(page) == colour).all(axis=2).any() for colour in PALETTE)
    left, _top, right, bottom, _ = area(page, (100, 100, 100))
    assert len(np.unique(np.asarray(page.crop((left, bottom, right, bottom + 200))).reshape(-1, 3), axis=0)) == 1


def test_equal_pictures_have_the_darkest_heat(tmp_path):
    path = solid(tmp_path, (7, 7, 7))
    page = draw_sheet(Sheet("", ("",), ("",), (Cell(0, 0, path, path, ""),)), RecordingJob())
    assert (np.asarray(page) == PALETTE[0]).all(axis=2).sum() >= 300 * 200


def test_heat_grows_lighter_evenly():
    linear = np.where(PALETTE / 255 <= 0.04045, PALETTE / 255 / 12.92, ((PALETTE / 255 + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    lightness = np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)
    steps = np.diff(lightness[::8])
    assert lightness[0] < 5 and lightness[-1] > 95
    assert steps.min() > 0.5 * steps.mean() and steps.max() < 1.5 * steps.mean()


@pytest.mark.parametrize("largest", [0, 0.004, 0.01, 0.0101, 0.33, 0.7, 0.71, 1])
def test_the_scale_ends_above_all_values_and_not_far_above(largest):
    maximum = round_maximum(largest)
    assert largest <= maximum <= max(0.01, 1.6 * largest)


@pytest.mark.parametrize(("columns", "rows", "size"), [(25, 8, 1024), (60, 3, 2048), (3, 90, 1024), (1, 1, 4096)])
def test_a_sheet_is_never_too_large_to_open(columns, rows, size):
    cells = tuple(
        Cell(row, column, f"{row}-{column}", "other", "0.1234") for row in range(rows) for column in range(columns)
    )
    sheet = Sheet("t", ("OUT01",) * columns, ("a prompt, " * 30,) * rows, cells)
    layout = _fitting_layout(sheet, dict.fromkeys(cells, (size, size)))
    width, height = layout.size
    assert max(width, height) <= 16_000 and width * height <= 2**26
    assert max(max(shown) for shown in layout.shown.values()) <= 384
    assert width * height > 2**22 or columns * rows == 1


def test_more_than_any_sheet_can_hold_is_refused_with_the_numbers():
    cells = tuple(Cell(0, column, f"{column}", None, "") for column in range(900))
    with pytest.raises(WorkerError, match="900 columns"):
        _fitting_layout(Sheet("", ("",) * 900, ("",), cells), dict.fromkeys(cells, (64, 64)))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, (text:1.2) <lora> #1 …", "plain, (text:1.2) <lora> #1 ..."),
        ("crème brûlée, Åse, Łódź, ß", "creme brulee, Ase, Lodz, ss"),
        ("кошка Щ ёж", "koshka Shch yozh"),
        ("σ 1 × 2 → 3 — ≥", "sigma 1 x 2 -> 3 - >="),
        ("のカ 한", "noka han"),
        ("猫猫 🧀", "[U+732B] [U+732B] [cheese wedge]"),
        ("ｆｕｌｌ ①", "full 1"),
        ("a\tb\nc\x00\x1b[31md\u202e\u200b", "a b c[31md"),
        ("\ud800", "[U+D800]"),
        ("", ""),
    ],
)
def test_what_the_font_lacks_is_written_in_what_it_has(text, shown):
    assert drawable(text) == shown


def test_lines_fit_their_width_and_what_is_cut_shows_it():
    chance = random.Random(0)
    letters = "abc WiM,.猫é🧀 \n"
    for _ in range(300):
        text = "".join(chance.choices(letters, k=chance.randrange(0, 120)))
        width, lines = chance.randrange(60, 300), chance.randrange(1, 5)
        made = wrapped(text, 16, width, lines)
        assert len(made) <= lines
        assert all(font(16).getlength(line) <= width for line in made)
        whole, kept = ("".join(part.split()) for part in (drawable(text), "".join(made)))
        assert kept == whole or (kept.endswith("…") and whole.startswith(kept[:-1]))


def test_a_book_as_a_prompt_is_cut_before_it_costs_time():
    assert wrapped("word " * 10**6, 16, 200, 3)[-1].endswith("…")
    assert wrapped("w" * 10**6, 16, 10**6, 1)[0].endswith("…")


def request(folder, **changes):
    base = solid(folder, (9, 9, 9))
    cell = {"row": 0, "column": 0, "picture": base, "compared": None, "caption": "c"}
    fields = {"op": "grid", "title": "t", "columns": ["a"], "rows": ["b"], "cells": [cell]}
    fields["output"] = str(folder / "grid.png")
    fields["cells"] = [cell | changed for changed in changes.pop("cells", [{}])]
    return parse(fields | changes)


def test_the_stage_writes_the_same_bytes_again(tmp_path):
    other = solid(tmp_path, (90, 9, 9))
    work = request(tmp_path, cells=[{"compared": other}], rows=["küche 🧀"])
    assert run(work, RecordingJob()) == {"grid": str(tmp_path / "grid.png")}
    first = (tmp_path / "grid.png").read_bytes()
    run(work, RecordingJob())
    assert (tmp_path / "grid.png").read_bytes() == first
    run(replace(work, sheet=replace(work.sheet, title="u")), RecordingJob())
    assert (tmp_path / "grid.png").read_bytes() != first


def test_the_stage_tells_its_progress_and_hears_a_cancel(tmp_path):
    work = request(tmp_path, columns=["a", "b"], cells=[{}, {"column": 1}])
    job = RecordingJob()
    run(work, job)
    assert [(message["done"], message["total"]) for message in job.of_type("progress")] == [(0, 2), (1, 2), (2, 2)]
    (tmp_path / "grid.png").unlink()
    job.cancel()
    with pytest.raises(Cancelled):
        run(work, job)
    assert not (tmp_path / "grid.png").exists()


def test_pictures_of_two_sizes_are_not_compared(tmp_path):
    work = request(tmp_path, cells=[{"compared": solid(tmp_path, (1, 1, 1), (64, 64))}])
    with pytest.raises(WorkerError, match=r"300x200.*64x64") as error:
        run(work, RecordingJob())
    assert error.value.kind == "bad-input"


@pytest.mark.parametrize(
    "changes", [{"cells": [{"row": 1}]}, {"cells": [{"column": -1}]}, {"cells": [{}, {}]}, {"cells": []}]
)
def test_cells_without_a_place_of_their_own_are_a_mistake_of_the_caller(tmp_path, changes):
    with pytest.raises(ProtocolError):
        request(tmp_path, **changes)


def test_labels_follow_each_other_down_the_sheet(tmp_path):
    """Title, heads, rows: each of the three draws something, above or left of the pictures."""
    path = solid(tmp_path, (250, 10, 10))
    cell = Cell(0, 0, path, None, "")
    bare = draw_sheet(Sheet("", ("",), ("",), (cell,)), RecordingJob()).size
    sizes = [
        draw_sheet(Sheet(*labels, (cell,)), RecordingJob()).size
        for labels in (("t", ("",), ("",)), ("t", ("c",), ("",)), ("t", ("c",), ("r",)))
    ]
    assert all(one != other for one, other in pairwise([bare, *sizes]))
