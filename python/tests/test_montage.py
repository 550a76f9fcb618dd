"""The montage has what it says, in its place, and stays legible however long the training is."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from support import RecordingJob

from lora_worker.errors import WorkerError
from lora_worker.montage import MOST_COLUMNS, MOST_FRAMES, thinned
from lora_worker.protocol import ProtocolError
from lora_worker.stages.montage import parse, run

COLOURS = {(step, row): (10 * step, 200 - 100 * row, 60) for step in (0, 10, 20) for row in (0, 1)}


def request(folder, pictures, labels=("a fox", "a hill")):
    return {
        "op": "montage",
        "labels": list(labels),
        "pictures": [{"step": step, "row": row, "picture": str(path)} for (step, row), path in pictures.items()],
        "output": str(folder / "montage.png"),
        "animation": str(folder / "animation.webp"),
    }


@pytest.fixture
def pictures(tmp_path):
    paths = {place: tmp_path / f"{place[0]}-{place[1]}.png" for place in COLOURS}
    for place, path in paths.items():
        Image.new("RGB", (256, 256), COLOURS[place]).save(path)
    return paths


def left_and_top(page, colour):
    places = np.argwhere((np.asarray(page.convert("RGB")) == colour).all(axis=2))
    return tuple(places.min(axis=0)[::-1])


def test_rows_are_prompts_and_columns_are_steps_in_order(tmp_path, pictures):
    outputs = run(parse(request(tmp_path, dict(reversed(pictures.items())))), RecordingJob())
    page = Image.open(outputs["montage"])
    found = {place: left_and_top(page, colour) for place, colour in COLOURS.items()}
    for row in (0, 1):
        lefts = [found[step, row][0] for step in (0, 10, 20)]
        assert lefts == sorted(lefts) and len({found[step, row][1] for step in (0, 10, 20)}) == 1
    assert found[0, 0][1] < found[0, 1][1] and found[0, 0][0] == found[0, 1][0]


def test_a_frame_shows_all_prompts_after_one_step(tmp_path, pictures):
    outputs = run(parse(request(tmp_path, pictures)), RecordingJob())
    with Image.open(outputs["animation"]) as film:
        assert film.format == "WEBP" and film.n_frames == 3 and film.info["loop"] == 0
        for frame, step in enumerate((0, 10, 20)):
            film.seek(frame)
            shown = np.asarray(film.convert("RGB")).astype(int).reshape(-1, 3)
            for row in (0, 1):
                # WebP changes colours a little.
                assert (np.abs(shown - COLOURS[step, row]).max(axis=1) < 8).sum() > 200 * 200


def test_a_picture_that_is_missing_leaves_its_place_empty(tmp_path, pictures):
    del pictures[10, 1]
    outputs = run(parse(request(tmp_path, pictures)), RecordingJob())
    with Image.open(outputs["animation"]) as film:
        assert film.n_frames == 3


def test_the_same_pictures_give_the_same_bytes(tmp_path, pictures):
    (tmp_path / "again").mkdir()
    first = run(parse(request(tmp_path, pictures)), RecordingJob())
    second = run(parse(request(tmp_path / "again", pictures)), RecordingJob())
    for name, path in first.items():
        with open(path, "rb") as one, open(second[name], "rb") as other:
            assert one.read() == other.read()


def test_many_steps_are_thinned_evenly_and_the_first_and_the_last_stay():
    steps = list(range(0, 2001, 10))
    for most in (2, 3, MOST_COLUMNS, MOST_FRAMES):
        chosen = thinned(steps, most)
        assert len(chosen) == most and chosen[0] == 0 and chosen[-1] == 2000
        gaps = [after - before for before, after in pairwise(chosen)]
        assert max(gaps) - min(gaps) <= 10
    assert thinned(steps[:5], 12) == steps[:5]


def test_a_long_training_gives_a_sheet_that_fits_a_screen(tmp_path, pictures):
    many = {(step, row): pictures[0, row] for step in range(0, 500) for row in (0, 1)}
    outputs = run(parse(request(tmp_path, many)), RecordingJob())
    assert Image.open(outputs["montage"]).width < 5000


def test_a_picture_that_cannot_be_read_is_named(tmp_path, pictures):
    pictures[10, 0].write_bytes(b"no picture")
    with pytest.raises(WorkerError, match=r"10-0\.png"):
        run(parse(request(tmp_path, pictures)), RecordingJob())


def test_what_cannot_be_drawn_is_refused(tmp_path, pictures):
    with pytest.raises(ProtocolError, match="must have a picture"):
        parse(request(tmp_path, {}))
    with pytest.raises(ProtocolError, match="without a label"):
        parse(request(tmp_path, pictures, labels=("one",)))
