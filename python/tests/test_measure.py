"""Distances of pictures are the root mean square of sRGB differences, and 1 is black against white."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from PIL import Image
from support import RecordingJob

from lora_worker.errors import Cancelled, WorkerError
from lora_worker.pictures import difference
from lora_worker.stages.measure import parse, run


def save(path, values_HWC):
    Image.fromarray(np.asarray(values_HWC, dtype=np.uint8)).save(path)
    return str(path)


def measured(folder, *pairs, job=None):
    named = [{"name": f"{place}", "first": first, "second": second} for place, (first, second) in enumerate(pairs)]
    output = str(folder / "distances.json")
    assert run(parse({"op": "measure", "pairs": named, "output": output}), job or RecordingJob()) == {
        "distances": output
    }
    return json.loads((folder / "distances.json").read_text())


def test_the_distance_is_what_its_formula_says(tmp_path):
    chance = np.random.default_rng(0)
    first, second = chance.integers(0, 256, (2, 37, 53, 3))
    a, b = save(tmp_path / "a.png", first), save(tmp_path / "b.png", second)
    black, white = (save(tmp_path / f"{value}.png", np.full((8, 8, 3), value)) for value in (0, 255))
    grey = save(tmp_path / "grey.png", np.full((8, 8, 3), 51))
    one = np.zeros((8, 8, 3))
    one[2, 3, 1] = 255
    dot = save(tmp_path / "dot.png", one)
    found = measured(tmp_path, (a, b), (b, a), (a, a), (black, white), (black, grey), (black, dot))
    exact = math.sqrt(((first - second) ** 2).mean()) / 255
    assert list(found.values()) == pytest.approx([exact, exact, 0, 1, 0.2, math.sqrt(1 / 192)], rel=1e-12)
    per_pixel = difference(Image.open(a).convert("RGB"), Image.open(b).convert("RGB"))
    assert per_pixel.shape == (37, 53)
    assert math.sqrt((per_pixel.astype(float) ** 2).mean()) == pytest.approx(exact, rel=1e-6)


def test_pictures_of_two_sizes_are_refused_with_both_names(tmp_path):
    a, b = save(tmp_path / "a.png", np.zeros((8, 9, 3))), save(tmp_path / "b.png", np.zeros((9, 8, 3)))
    with pytest.raises(WorkerError, match=r"a\.png.*9x8.*b\.png.*8x9") as error:
        measured(tmp_path, (a, b))
    assert error.value.kind == "bad-input"


@pytest.mark.parametrize("damage", ["no picture", "cut short", "empty", "too large"])
def test_a_file_that_is_no_whole_picture_is_named(tmp_path, damage, monkeypatch):
    good = save(tmp_path / "good.png", np.random.default_rng(0).integers(0, 256, (64, 64, 3)))
    data = (tmp_path / "good.png").read_bytes()
    bad = tmp_path / "bad.png"
    bad.write_bytes({"no picture": b"hello", "cut short": data[:5000], "empty": b"", "too large": data}[damage])
    if damage == "too large":
        monkeypatch.setattr("lora_worker.pictures._MAX_PIXELS", 64 * 64 - 1)
    with pytest.raises(WorkerError, match="png") as error:
        measured(tmp_path, (str(bad), str(bad) if damage == "too large" else good))
    assert error.value.kind == "bad-input" and "bad.png" in error.value.message
    assert not (tmp_path / "distances.json").exists()


def test_a_missing_file_is_the_systems_error_which_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        measured(tmp_path, (str(tmp_path / "nowhere.png"), str(tmp_path / "nowhere.png")))


def test_a_cancel_is_heard_between_pairs(tmp_path):
    job = RecordingJob()
    job.cancel()
    black = save(tmp_path / "a.png", np.zeros((8, 8, 3)))
    with pytest.raises(Cancelled):
        measured(tmp_path, (black, black), job=job)
