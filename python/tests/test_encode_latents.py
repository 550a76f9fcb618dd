"""The stage as the worker runs it, on drawn pictures and on bad ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from support import RecordingJob

from lora_worker.area_filter import shrunk
from lora_worker.errors import Cancelled, WorkerError
from lora_worker.images import Framing, Reading, load_image, to_tensor
from lora_worker.protocol import ProtocolError
from lora_worker.safetensors_file import read_safetensors, write_safetensors
from lora_worker.stages.encode_latents import encode, parse, run
from lora_worker.toy.pictures import draw


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
    torch.testing.assert_close(tensors["mean"], encode(toy_vae, to_tensor(stored))["mean"])


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
    exact = encode(toy_vae, load_image(folder / "a.png", Framing((96, 64), (0, 0), (96, 64))))
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
