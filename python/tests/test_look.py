"""What a look at pixels tells of pictures, as people and programs save them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from support import RecordingJob

from lora_worker.errors import Cancelled
from lora_worker.stages.look import look_at, parse, run
from lora_worker.toy.pictures import draw


def distance(one: str, other: str) -> float:
    """The share of edges that one has and the other has not."""
    a, b = (int(text, 16) for text in (one, other))
    return (a ^ b).bit_count() / (a | b).bit_count()


@pytest.fixture
def picture():
    return draw(1, (320, 256)).image


def test_copies_of_a_picture_look_alike_and_other_pictures_do_not(tmp_path, picture):
    picture.save(tmp_path / "first.png")
    picture.save(tmp_path / "again.jpg", quality=60)
    picture.resize((200, 160)).save(tmp_path / "small.webp", quality=70)
    picture.point(lambda value: min(255, value + 12)).save(tmp_path / "bright.png")
    picture.crop((2, 1, 318, 255)).save(tmp_path / "cropped.png")
    first = look_at(str(tmp_path / "first.png"))
    assert len(first["hash"]) == 64
    for name in ("again.jpg", "small.webp", "bright.png", "cropped.png"):
        assert distance(first["hash"], look_at(str(tmp_path / name))["hash"]) <= 0.15, name
    for seed in range(2, 12):
        draw(seed, (320, 256)).image.save(tmp_path / "other.png")
        assert distance(first["hash"], look_at(str(tmp_path / "other.png"))["hash"]) > 0.25


def test_only_pixels_that_are_see_through_count_as_transparent(tmp_path, picture):
    picture.convert("RGBA").save(tmp_path / "opaque.png")
    assert look_at(str(tmp_path / "opaque.png"))["transparent"] == 0
    half = picture.convert("RGBA")
    half.paste((0, 0, 0, 0), (0, 0, 160, 256))
    half.save(tmp_path / "half.png")
    assert look_at(str(tmp_path / "half.png"))["transparent"] == 0.5


def test_a_picture_of_one_color_says_so(tmp_path):
    Image.new("RGB", (64, 64), (200, 10, 10)).save(tmp_path / "red.png")
    assert look_at(str(tmp_path / "red.png"))["plain"] is True
    Image.fromarray(np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))).save(tmp_path / "ramp.png")
    assert look_at(str(tmp_path / "ramp.png"))["plain"] is False


def test_a_damaged_file_is_told_beside_the_good_ones(tmp_path, picture):
    picture.save(tmp_path / "good.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "good.jpg").read_bytes()[:900])
    items = [{"name": name, "image": str(tmp_path / name)} for name in ("good.jpg", "cut.jpg", "gone.jpg")]
    job = RecordingJob()
    outputs = run(parse({"op": "look", "items": items, "output": str(tmp_path / "looks.json")}), job)
    looks = json.loads((tmp_path / "looks.json").read_text())
    assert outputs == {"looks": str(tmp_path / "looks.json")}
    assert looks["good.jpg"]["transparent"] == 0
    assert "damaged or incomplete" in looks["cut.jpg"]["problem"]
    assert looks["gone.jpg"] == {"problem": "the file is not there"}
    assert job.of_type("progress")[-1]["done"] == 3


def test_a_cancelled_look_stops(tmp_path, picture):
    picture.save(tmp_path / "a.png")
    job = RecordingJob()
    job.cancel()
    items = [{"name": "a", "image": str(tmp_path / "a.png")}]
    with pytest.raises(Cancelled):
        run(parse({"op": "look", "items": items, "output": str(tmp_path / "looks.json")}), job)


def test_a_picture_that_leaves_nothing_as_a_mask_is_dark(tmp_path):
    def is_dark(image, name="mask.png"):
        image.save(tmp_path / name)
        return look_at(str(tmp_path / name))["dark"]

    assert is_dark(Image.new("L", (90, 90)))
    assert is_dark(Image.new("RGB", (90, 90), (3, 0, 2)), "mask.jpg")
    assert is_dark(Image.new("RGBA", (90, 90), (255, 255, 255, 0)))
    dotted = Image.new("L", (90, 90))
    dotted.putpixel((80, 3), 255)
    assert not is_dark(dotted)
    assert not is_dark(Image.new("L", (90, 90), 255))
