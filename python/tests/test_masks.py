"""Masks on their way from files to the loss: they lie where the pixels of their image lie."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from support import RecordingJob
from test_encode_latents import request
from torch.nn.functional import interpolate

from lora_worker.errors import WorkerError
from lora_worker.images import BadImage, Framing, Reading, load_image
from lora_worker.masks import MaskedLoss, load_alpha, load_mask
from lora_worker.protocol import Fields, ProtocolError
from lora_worker.safetensors_file import read_safetensors
from lora_worker.stages.encode_latents import parse, run

USUAL = Reading()


def whole(width: int, height: int) -> Framing:
    return Framing((width, height), (0, 0), (width, height))


def spots(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth, so that scaling it twice differs little from scaling it once."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def test_white_counts_black_does_not_and_grey_is_between(tmp_path):
    mask = Image.new("L", (16, 24))
    mask.paste(255, (0, 0, 8, 8))
    mask.paste(51, (8, 0, 16, 8))
    mask.paste(255, (0, 8, 4, 16))
    mask.save(tmp_path / "m.png")
    loaded = load_mask(tmp_path / "m.png", whole(16, 24), USUAL)
    assert loaded.dtype == torch.float32
    torch.testing.assert_close(loaded, torch.tensor([[1, 0.2], [0.5, 0], [0, 0]]))


@pytest.mark.parametrize("mode", ["L", "RGB", "1", "P", "RGBA", "LA", "I;16"])
def test_masks_of_any_kind_are_understood(tmp_path, mode):
    mask = Image.new("L", (16, 8))
    mask.paste(255, (0, 0, 8, 8))
    if mode == "I;16":
        mask = Image.fromarray(np.asarray(mask).astype(np.uint16) * 257)
    elif mode in ("RGBA", "LA"):
        painted = Image.new(mode, (16, 8))
        painted.paste(Image.new(mode, (8, 8), "white"), (0, 0))
        mask = painted  # what nothing was painted on is transparent
    else:
        mask = mask.convert(mode)
    mask.save(tmp_path / "m.png")
    assert load_mask(tmp_path / "m.png", whole(16, 8), USUAL).tolist() == [[1, 0]]


framings = st.builds(
    lambda width, height, wide, scale, flip: ((width, height), wide, scale, flip),
    st.integers(24, 70),
    st.integers(24, 70),
    st.sampled_from([(32, 32), (48, 32), (32, 48)]),
    st.sampled_from(["lanczos", "area"]),
    st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(case=framings, seed=st.integers(0, 99), orientation=st.integers(1, 8), upright=st.booleans())
def test_a_mask_takes_the_way_of_its_image(tmp_path_factory, case, seed, orientation, upright):
    """Of an image that is its own mask, the mask is the mean of each 8×8 pixels, wherever they have come to lie."""
    stored, bucket, resize_filter, flip = case
    size = stored[::-1] if upright and orientation >= 5 else stored
    scale = max(bucket[0] / size[0], bucket[1] / size[1])
    resized = (round(size[0] * scale), round(size[1] * scale))
    crop = ((resized[0] - bucket[0]) // 2, (resized[1] - bucket[1]) // 2)
    framing = Framing(resized, crop, bucket, flip)
    folder = tmp_path_factory.getbasetemp()
    exif = Image.Exif()
    exif[0x0112] = orientation
    grey = spots(*stored, seed)
    grey.save(folder / "mask.png", exif=exif)
    Image.merge("RGB", [grey] * 3).save(folder / "image.png", exif=exif)
    Image.merge("RGBA", [grey] * 4).save(folder / "alpha.png", exif=exif)
    reading = Reading(upright=upright, resize_filter=resize_filter)
    pixels = (load_image(folder / "image.png", framing, reading)[:1] + 1) / 2
    expected = interpolate(pixels[None], (bucket[1] // 8, bucket[0] // 8), mode="area")[0, 0]
    torch.testing.assert_close(load_mask(folder / "mask.png", framing, reading), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(load_alpha(folder / "alpha.png", framing, reading), expected, rtol=0, atol=1e-5)


@example(width=214, height=229, part=0.3387140913544858, seed=0)
@settings(max_examples=40, deadline=None)
@given(width=st.integers(200, 400), height=st.integers(200, 400), part=st.floats(0.2, 3), seed=st.integers(0, 99))
def test_a_mask_may_be_smaller_or_larger_than_its_image(tmp_path_factory, width, height, part, seed):
    folder = tmp_path_factory.getbasetemp()
    scale = max(64 / width, 64 / height)
    resized = (round(width * scale), round(height * scale))
    framing = Framing(resized, ((resized[0] - 64) // 2, (resized[1] - 64) // 2), (64, 64))
    spots(width, height, seed).save(folder / "same.png")
    spots(round(width * part), round(height * part), seed).save(folder / "other.png")
    same, other = (load_mask(folder / name, framing, USUAL) for name in ("same.png", "other.png"))
    assert (same - other).abs().max() < 0.08


def test_an_image_without_alpha_counts_everywhere(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    assert load_alpha(tmp_path / "a.png", whole(16, 16), USUAL).tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize("size", [(32, 64), (64, 60), (64, 48), (70, 32), (8, 8)])
def test_a_mask_of_another_shape_is_bad(tmp_path, size):
    Image.new("L", size).save(tmp_path / "m.png")
    with pytest.raises(BadImage, match=f"the mask is {size[0]}x{size[1]}"):
        load_mask(tmp_path / "m.png", whole(64, 32), USUAL)


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


HOSTILE = [b"", b"hello", b"\x89PNG\r\n\x1a\n", png(spots(96, 64))[:200], png(Image.new("L", (64, 96)))]


def test_bad_masks_are_told_together_and_the_other_images_are_done(toy_checkpoint, tmp_path):
    names = [f"{place}.png" for place in range(len(HOSTILE) + 1)]
    for name, content in zip(names, [png(spots(96, 64)), *HOSTILE], strict=True):
        spots(96, 64).convert("RGB").save(tmp_path / name)
        (tmp_path / f"mask-{name}").write_bytes(content)
    fields = request_with(toy_checkpoint, tmp_path, names, lambda name: masked_by(tmp_path / f"mask-{name}"))
    job = RecordingJob()
    with pytest.raises(WorkerError) as caught:
        run(parse(fields), job)
    assert caught.value.kind == "bad-input"
    assert [problem.path for problem in caught.value.problems] == [str(tmp_path / f"mask-{name}") for name in names[1:]]
    assert [message["name"] for message in job.of_type("artifact")] == ["0.png:False", "0.png:True"]


def masked_by(path):
    return {"kind": "file", "path": str(path)}


def request_with(checkpoint, folder, names, mask_of):
    items = [
        {
            "name": f"{name}:{flip}",
            "image": str(folder / name),
            "resized": [96, 64],
            "crop": [0, 0],
            "bucket": [96, 64],
            "flip": flip,
            "output": str(folder / f"{name}-{flip}.safetensors"),
            "mask": mask_of(name),
        }
        for name in names
        for flip in (False, True)
    ]
    how = {"vae_precision": "fp32", "exif": "apply", "transparency": [255, 255, 255], "resize_filter": "lanczos"}
    return {"op": "encode_latents", "checkpoint": str(checkpoint), "items": items, **how}


def test_a_mask_is_stored_beside_the_moments_which_do_not_change(toy_checkpoint, tmp_path):
    image = spots(96, 64, 1).convert("RGBA")
    image.putalpha(spots(96, 64, 2))
    image.save(tmp_path / "a.png")
    run(request(toy_checkpoint, tmp_path, ["a.png"]), RecordingJob())
    plain = {flip: read_safetensors(tmp_path / f"a.png-{flip}.safetensors")[0] for flip in (False, True)}
    run(parse(request_with(toy_checkpoint, tmp_path, ["a.png"], lambda _: {"kind": "alpha"})), RecordingJob())
    for flip in (False, True):
        tensors, _ = read_safetensors(tmp_path / f"a.png-{flip}.safetensors")
        assert torch.equal(tensors["mean"], plain[flip]["mean"])
        assert torch.equal(tensors["logvar"], plain[flip]["logvar"])
        alpha = load_alpha(tmp_path / "a.png", whole(96, 64), USUAL)
        assert torch.equal(tensors["mask"], alpha.flip(-1) if flip else alpha)


def test_what_is_unmasked_can_count_a_little_and_what_is_left_can_count_as_a_whole():
    mask = torch.tensor([[1.0, 0.5], [0, 0]])
    assert MaskedLoss().weights(mask).tolist() == mask.tolist()
    assert MaskedLoss(unmasked_weight=0.25).weights(mask).tolist() == [[1, 0.5], [0.25, 0.25]]
    whole = MaskedLoss(unmasked_weight=0.25, normalize=True).weights(mask)
    torch.testing.assert_close(whole, torch.tensor([[2, 1], [0.5, 0.5]]))
    assert MaskedLoss(normalize=True).weights(torch.zeros(2, 2)).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("weight", [-0.1, 1.5])
def test_a_weight_is_from_0_to_1(weight):
    with pytest.raises(ProtocolError, match="unmasked_weight"):
        MaskedLoss.parse(Fields({"unmasked_weight": weight, "normalize": False}, "masked_loss"))
