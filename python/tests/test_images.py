"""From files to tensors, with every kind of file that people and programs leave in training folders."""

from __future__ import annotations

import io
import random
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lora_worker.area_filter import shrunk
from lora_worker.images import BadImage, Framing, Reading, load_image, open_rgb, to_tensor


def whole(width: int, height: int, **changes) -> Framing:
    return Framing(**({"resized": (width, height), "crop": (0, 0), "bucket": (width, height)} | changes))


def gradient(width: int, height: int) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], -1).astype(np.uint8))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_pixels_run_from_minus_one_to_one(tmp_path):
    image = Image.new("RGB", (64, 32), (0, 255, 51))
    image.save(tmp_path / "a.png")
    pixels = load_image(tmp_path / "a.png", whole(64, 32))
    assert pixels.shape == (3, 32, 64)
    assert pixels.dtype == torch.float32
    torch.testing.assert_close(pixels[:, 0, 0], torch.tensor([-1.0, 1.0, 51 / 127.5 - 1]))


def test_an_image_is_resized_cropped_and_mirrored_in_that_order(tmp_path):
    image = gradient(100, 60)
    image.save(tmp_path / "a.png")
    framing = Framing(resized=(107, 64), crop=(21, 0), bucket=(64, 64))
    expected = to_tensor(image.resize((107, 64), Image.Resampling.LANCZOS).crop((21, 0, 85, 64)))
    assert torch.equal(load_image(tmp_path / "a.png", framing), expected)
    flipped = load_image(tmp_path / "a.png", Framing(resized=(107, 64), crop=(21, 0), bucket=(64, 64), flip=True))
    assert torch.equal(flipped, expected.flip(-1))


def test_an_image_of_the_right_size_keeps_its_pixels(tmp_path):
    gradient(64, 96).save(tmp_path / "a.png")
    assert torch.equal(load_image(tmp_path / "a.png", whole(64, 96)), to_tensor(gradient(64, 96)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(tmp_path, orientation):
    upright = gradient(48, 32)
    undo = {
        1: lambda image: image,
        2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
        4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
        6: lambda image: image.transpose(Image.Transpose.ROTATE_90),
        7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
        8: lambda image: image.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    undo(upright).save(tmp_path / "a.png", exif=exif)
    assert torch.equal(load_image(tmp_path / "a.png", whole(48, 32)), to_tensor(upright))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_without_exif_a_picture_is_as_it_is_stored(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    gradient(48, 32).save(tmp_path / "a.png", exif=exif)
    pixels = load_image(tmp_path / "a.png", whole(48, 32), Reading(upright=False))
    assert torch.equal(pixels, to_tensor(gradient(48, 32)))


def test_the_area_filter_is_for_pictures_of_which_no_side_grows(tmp_path):
    image = gradient(100, 60)
    image.save(tmp_path / "a.png")
    area = Reading(resize_filter="area")

    def pixels(resized, bucket, reading):
        framing = Framing(resized, (resized[0] - bucket[0], resized[1] - bucket[1]), bucket, flip=True)
        return load_image(tmp_path / "a.png", framing, reading)

    smaller = Image.fromarray(shrunk(np.asarray(image), (41, 25)))
    assert torch.equal(pixels((41, 25), (40, 24), area), to_tensor(smaller.crop((1, 1, 41, 25))).flip(-1))
    assert not torch.equal(pixels((41, 25), (40, 24), area), pixels((41, 25), (40, 24), Reading()))
    for size, bucket in (((101, 60), (100, 60)), ((100, 61), (100, 60)), ((107, 64), (107, 64))):
        assert torch.equal(pixels(size, bucket, area), pixels(size, bucket, Reading())), size


def test_transparent_pixels_show_the_color_that_is_asked_for_or_what_is_stored(tmp_path):
    image = Image.new("RGBA", (16, 16), (200, 100, 40, 0))
    image.putpixel((3, 3), (0, 0, 0, 128))
    image.putpixel((4, 4), (9, 8, 7, 255))
    grey = Image.new("LA", (16, 16), (77, 0))
    image.save(tmp_path / "a.png")
    grey.save(tmp_path / "grey.png")
    blue = open_rgb(tmp_path / "a.png", Reading(background=(0, 0, 255)))
    assert [blue.getpixel(at) for at in ((0, 0), (3, 3), (4, 4))] == [(0, 0, 255), (0, 0, 127), (9, 8, 7)]
    stored = open_rgb(tmp_path / "a.png", Reading(background=None))
    assert [stored.getpixel(at) for at in ((0, 0), (3, 3), (4, 4))] == [(200, 100, 40), (0, 0, 0), (9, 8, 7)]
    assert open_rgb(tmp_path / "grey.png", Reading(background=None)).getpixel((0, 0)) == (77, 77, 77)
    assert open_rgb(tmp_path / "grey.png", Reading(background=(1, 2, 3))).getpixel((0, 0)) == (1, 2, 3)


def test_transparent_pixels_show_white(tmp_path):
    image = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 16, 32))
    image.putpixel((31, 31), (0, 0, 0, 128))
    for name in ("a.png", "a.webp", "a.gif"):
        image.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
        rgb = open_rgb(tmp_path / name)
        assert rgb.getpixel((20, 5)) == (255, 255, 255)
        assert rgb.getpixel((3, 5)) == (0, 0, 255)
    assert open_rgb(tmp_path / "a.png").getpixel((31, 31)) == (127, 127, 127)


def test_a_palette_with_a_transparent_color_shows_white(tmp_path):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 200, 10, 10])
    image.paste(0, (0, 0, 4, 8))
    image.save(tmp_path / "a.png", transparency=0)
    rgb = open_rgb(tmp_path / "a.png")
    assert rgb.getpixel((0, 0)) == (255, 255, 255)
    assert rgb.getpixel((7, 7)) == (200, 10, 10)


def test_16_bit_greys_keep_their_upper_bits(tmp_path):
    values = np.array([[0, 0x1234, 0x8000, 0xFFFF]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    rgb = open_rgb(tmp_path / "a.png")
    assert [rgb.getpixel((x, 0)) for x in range(4)] == [(v, v, v) for v in (0, 0x12, 0x80, 0xFF)]


def test_16_bit_colors_keep_their_upper_bits(tmp_path):
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(b"\0" + struct.pack(">HHH", 0x1234, 0x8000, 0xFFFF)))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + data + png_chunk(b"IEND", b""))
    assert open_rgb(tmp_path / "a.png").getpixel((0, 0)) == (0x12, 0x80, 0xFF)


@pytest.mark.parametrize("mode", ["CMYK", "L", "1", "YCbCr"])
def test_other_color_models_become_rgb(tmp_path, mode):
    name = tmp_path / ("a.png" if mode in ("1",) else "a.jpg")
    Image.new("RGB", (32, 32), (255, 255, 255)).convert(mode).save(name)
    rgb = open_rgb(name)
    assert rgb.mode == "RGB"
    assert min(rgb.getpixel((9, 9))) >= 250


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_an_animation_is_its_first_frame(tmp_path, name):
    frames = [Image.new("RGB", (16, 16), color) for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=50)
    red, green, blue = open_rgb(tmp_path / name).getpixel((8, 8))
    assert red > 240 and green < 15 and blue < 15


def test_a_name_that_lies_about_the_format_does_no_harm(tmp_path):
    gradient(32, 32).save(tmp_path / "a.jpg", format="WEBP", lossless=True)
    assert open_rgb(tmp_path / "a.jpg").tobytes() == gradient(32, 32).tobytes()


def encoded(format: str) -> bytes:
    stream = io.BytesIO()
    noisy = np.random.default_rng(0).integers(0, 40, (64, 64, 3), dtype=np.uint8)
    image = Image.fromarray(np.asarray(gradient(64, 64)) // 2 + noisy)
    image.save(stream, format=format, **({"exif": big_exif()} if format == "JPEG" else {}))
    return stream.getvalue()


def big_exif() -> bytes:
    exif = Image.Exif()
    exif[0x010E] = "x" * 60_000
    return exif.tobytes()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.97])
def test_a_truncated_file_is_bad(tmp_path, format, share):
    data = encoded(format)
    (tmp_path / "cut").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(BadImage):
        open_rgb(tmp_path / "cut")


@pytest.mark.parametrize("content", [b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_bad(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(BadImage, match="empty or no image|damaged"):
        open_rgb(tmp_path / "a.png")


def test_a_missing_file_is_bad(tmp_path):
    with pytest.raises(BadImage, match="not there"):
        open_rgb(tmp_path / "a.png")


def test_a_huge_exif_block_is_read_past(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded("JPEG"))
    assert open_rgb(tmp_path / "a.jpg").size == (64, 64)


def test_broken_exif_counts_as_none(tmp_path):
    gradient(48, 32).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\0\0")
    assert open_rgb(tmp_path / "a.jpg").size == (48, 32)


def test_a_header_that_promises_billions_of_pixels_is_bad(tmp_path):
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(bytes(100)))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + data + png_chunk(b"IEND", b""))
    with pytest.raises(BadImage, match="too many pixels"):
        open_rgb(tmp_path / "bomb.png")


def test_an_image_that_keeps_its_size_is_cut_on_both_sides(tmp_path):
    gradient(100, 60).save(tmp_path / "a.png")
    pixels = load_image(tmp_path / "a.png", Framing(resized=(100, 60), crop=(2, 14), bucket=(96, 32)))
    assert torch.equal(pixels, to_tensor(gradient(100, 60).crop((2, 14, 98, 46))))


def test_an_image_of_another_size_than_planned_is_bad(tmp_path):
    gradient(64, 96).save(tmp_path / "a.png")
    with pytest.raises(BadImage, match="64x96"):
        load_image(tmp_path / "a.png", Framing(resized=(96, 64), crop=(0, 0), bucket=(96, 64)))


@settings(max_examples=150, deadline=None)
@given(format=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF"]), seed=st.integers(0, 2**32), changes=st.integers(1, 12))
def test_damaged_bytes_give_a_picture_or_a_bad_image_and_nothing_else(tmp_path_factory, format, seed, changes):
    dice = random.Random(seed)
    data = bytearray(encoded(format))
    for _ in range(changes):
        data[dice.randrange(len(data))] = dice.randrange(256)
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(data)
    try:
        assert open_rgb(path).mode == "RGB"
    except BadImage as problem:
        assert str(problem)
