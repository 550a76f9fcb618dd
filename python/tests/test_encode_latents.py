"""The stage as the worker runs it, on drawn pictures and on bad ones."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from support import RecordingJob

from lora_worker import vae_batches
from lora_worker.area_filter import shrunk
from lora_worker.errors import Cancelled, WorkerError
from lora_worker.images import Framing, Reading, load_image, to_tensor
from lora_worker.protocol import ProtocolError
from lora_worker.safetensors_file import read_safetensors, write_safetensors
from lora_worker.stages import encode_latents
from lora_worker.stages.encode_latents import parse, run
from lora_worker.toy.pictures import draw
from lora_worker.vae_batches import BatchEncoder, encode


def request(checkpoint, folder, names, *, precision="fp32", bucket=(96, 64)):
    return parse(
        {
            "op": "encode_latents",
            "checkpoint": str(checkpoint),
            "vae_precision": precision,
            "exif": "apply",
            "transparency": [255, 255, 255],
            "resize_filter": "lanczos",
            "items": [
                {
                    "name": f"{name}:{flip}",
                    "image": str(folder / name),
                    "resized": list(bucket),
                    "crop": [0, 0],
                    "bucket": list(bucket),
                    "flip": flip,
                    "output": str(folder / f"{name}-{flip}.safetensors"),
                }
                for name in names
                for flip in (False, True)
            ],
        }
    )


@pytest.fixture
def folder(tmp_path):
    draw(1, (96, 64)).image.save(tmp_path / "a.png")
    draw(2, (96, 64)).image.save(tmp_path / "b.webp")
    return tmp_path


def test_moments_equal_a_direct_call_of_the_autoencoder(toy_checkpoint, toy_vae, folder):
    job = RecordingJob()
    assert run(request(toy_checkpoint, folder, ["a.png", "b.webp"]), job) == {}
    assert [message["name"] for message in job.of_type("artifact")] == [
        "a.png:False",
        "a.png:True",
        "b.webp:False",
        "b.webp:True",
    ]
    pixels = load_image(folder / "a.png", Framing((96, 64), (0, 0), (96, 64)))
    for flip in (False, True):
        tensors, _ = read_safetensors(folder / f"a.png-{flip}.safetensors")
        assert set(tensors) == {"mean", "logvar"}
        with torch.no_grad():
            moments = toy_vae._encode(pixels.flip(-1)[None] if flip else pixels[None])[0]
        for tensor, expected in zip((tensors["mean"], tensors["logvar"]), moments.chunk(2), strict=True):
            assert tensor.dtype == torch.float32
            assert tensor.shape == (4, 8, 12)
            torch.testing.assert_close(tensor, expected, rtol=1e-5, atol=1e-5)


def test_how_pictures_are_read_comes_with_the_request(toy_checkpoint, toy_vae, folder):
    image = draw(3, (192, 128)).image.convert("RGBA")
    image.paste((0, 255, 0, 0), (0, 0, 50, 50))
    exif = Image.Exif()
    exif[0x0112] = 3
    image.save(folder / "c.png", exif=exif)
    work = replace(request(toy_checkpoint, folder, ["c.png"]), reading=Reading(False, None, "area"))
    run(work, RecordingJob())
    stored = Image.fromarray(shrunk(np.asarray(image.convert("RGB")), (96, 64)))
    tensors, _ = read_safetensors(folder / "c.png-False.safetensors")
    torch.testing.assert_close(tensors["mean"], encode(toy_vae, to_tensor(stored)[None])[0]["mean"])


@pytest.mark.parametrize("wrong", [[0, 0], [0, 0, 256], [0, 0, -1, 3], "white"])
def test_a_color_is_three_numbers(toy_checkpoint, wrong):
    fields = {"checkpoint": str(toy_checkpoint), "vae_precision": "fp32", "items": []}
    with pytest.raises(ProtocolError, match="transparency"):
        parse({**fields, "exif": "apply", "transparency": wrong, "resize_filter": "lanczos"})


def test_the_same_picture_gives_the_same_bytes(toy_checkpoint, folder):
    results = []
    for _ in range(2):
        run(request(toy_checkpoint, folder, ["a.png"]), RecordingJob())
        results.append((folder / "a.png-False.safetensors").read_bytes())
    assert results[0] == results[1]


def test_half_precision_is_close_and_stored_in_single(toy_checkpoint, toy_vae, folder):
    run(request(toy_checkpoint, folder, ["a.png"], precision="bf16"), RecordingJob())
    tensors, _ = read_safetensors(folder / "a.png-False.safetensors")
    [exact] = encode(toy_vae, load_image(folder / "a.png", Framing((96, 64), (0, 0), (96, 64)))[None])
    assert tensors["mean"].dtype == torch.float32
    assert not torch.equal(tensors["mean"], exact["mean"])
    assert (tensors["mean"] - exact["mean"]).abs().mean() < 0.05 * exact["mean"].std()


def test_all_bad_images_are_told_together_after_the_good_ones_are_done(toy_checkpoint, folder):
    (folder / "empty.png").write_bytes(b"")
    data = (folder / "a.png").read_bytes()
    (folder / "cut.png").write_bytes(data[: len(data) // 2])
    Image.new("RGB", (64, 96)).save(folder / "turned.png")
    job = RecordingJob()
    with pytest.raises(WorkerError) as caught:
        run(request(toy_checkpoint, folder, ["empty.png", "a.png", "cut.png", "gone.png", "turned.png", "b.webp"]), job)
    failure = caught.value
    assert failure.kind == "bad-input"
    assert failure.message == "4 images could not be encoded."
    assert [problem.path.rsplit("/", 1)[-1] for problem in failure.problems] == [
        "empty.png",
        "cut.png",
        "gone.png",
        "turned.png",
    ]
    assert [message["name"].split(":")[0] for message in job.of_type("artifact")] == [
        "a.png",
        "a.png",
        "b.webp",
        "b.webp",
    ]


def test_numbers_that_overflow_name_the_image_and_are_not_written(toy_checkpoint, folder):
    tensors, _ = read_safetensors(toy_checkpoint)
    tensors["first_stage_model.quant_conv.bias"] = torch.full((8,), float("inf")).half()
    write_safetensors(folder / "broken.safetensors", tensors)
    with pytest.raises(WorkerError) as caught:
        run(request(folder / "broken.safetensors", folder, ["a.png"]), RecordingJob())
    assert caught.value.kind == "non-finite"
    assert "a.png" in caught.value.problems[0].path
    assert not (folder / "a.png-False.safetensors").exists()


def test_a_cancelled_job_stops_between_images(toy_checkpoint, folder):
    job = RecordingJob()
    job.cancel()
    with pytest.raises(Cancelled):
        run(request(toy_checkpoint, folder, ["a.png"]), job)
    assert job.of_type("artifact") == []


@pytest.fixture
def batched(monkeypatch):
    """As on a GPU, with room for so many pictures. The batches that the autoencoder was given."""

    def arrange(fits, size=16):
        given = []
        monkeypatch.setattr(vae_batches, "_size", lambda vae, largest_pixels: size)
        encode = vae_batches.encode

        def tight(vae, pixels_BCHW):
            if len(pixels_BCHW) > fits:
                raise torch.OutOfMemoryError("no")
            given.append(tuple(pixels_BCHW.shape))
            return encode(vae, pixels_BCHW)

        monkeypatch.setattr(vae_batches, "encode", tight)
        return given

    return arrange


def test_a_gpu_encodes_pictures_of_one_size_together_and_tells_problems_in_their_order(toy_checkpoint, folder, batched):
    draw(3, (64, 64)).image.save(folder / "square.png")
    (folder / "empty.png").write_bytes(b"")
    names = ["a.png", "square.png", "empty.png", "b.webp"]
    work = request(toy_checkpoint, folder, names)
    square = Framing((64, 64), (0, 0), (64, 64))
    items = [replace(item, framing=square) if "square" in item.name else item for item in work.items]
    alone = RecordingJob()
    with pytest.raises(WorkerError):
        run(replace(work, items=tuple(items)), alone)
    wanted = {message["name"]: read_safetensors(message["path"])[0] for message in alone.of_type("artifact")}

    given = batched(fits=16)
    job = RecordingJob()
    with pytest.raises(WorkerError) as caught:
        run(replace(work, items=tuple(items)), job)
    # The damaged one and its twin would have been the third and the fourth of their size.
    assert given == [(4, 3, 64, 96), (2, 3, 64, 64)]
    assert [problem.path.rsplit("/", 1)[-1] for problem in caught.value.problems] == ["empty.png"]
    found = {message["name"]: read_safetensors(message["path"])[0] for message in job.of_type("artifact")}
    assert found.keys() == wanted.keys()
    for name, tensors in wanted.items():
        for each in ("mean", "logvar"):
            torch.testing.assert_close(found[name][each], tensors[each], rtol=1e-4, atol=1e-4)


def test_too_little_memory_for_several_pictures_is_met_by_fewer(toy_vae, batched):
    given = batched(fits=2)
    encoder = BatchEncoder(toy_vae, largest_pixels=64 * 64)
    assert len(encoder.moments([torch.zeros(3, 64, 64)] * 11)) == 11
    assert [shape[0] for shape in given] == [2, 2, 2, 2, 2, 1]
    assert encoder.size == 2
    batched(fits=0, size=2)
    with pytest.raises(torch.OutOfMemoryError):
        BatchEncoder(toy_vae, largest_pixels=64 * 64).moments([torch.zeros(3, 64, 64)] * 2)


def test_a_cpu_encodes_each_picture_alone(toy_vae):
    assert BatchEncoder(toy_vae, largest_pixels=1).size == 1


def test_pictures_are_read_while_others_are_encoded(toy_checkpoint, folder, monkeypatch):
    """The first one is encoded only when the third has been asked for."""
    asked = threading.Event()
    load = encode_latents.load_image

    def loading(path, framing, reading):
        if path.endswith("b.webp"):
            asked.set()
        return load(path, framing, reading)

    monkeypatch.setattr(encode_latents, "load_image", loading)
    encode = vae_batches.encode

    def waiting(vae, pixels_BCHW):
        assert asked.wait(60)
        return encode(vae, pixels_BCHW)

    monkeypatch.setattr(vae_batches, "encode", waiting)
    job = RecordingJob()
    run(request(toy_checkpoint, folder, ["a.png", "b.webp"]), job)
    assert len(job.of_type("artifact")) == 4
