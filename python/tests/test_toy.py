"""The toy is a fair stand-in: same names, lively numbers, same bytes each time."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from test_architecture import FIXTURES

from lora_worker.architecture import VAE_SCALE, read_architecture
from lora_worker.images import to_tensor
from lora_worker.models import size_embedding_inputs
from lora_worker.naming import lora_targets
from lora_worker.safetensors_file import read_header
from lora_worker.toy.__main__ import main as toy_main
from lora_worker.toy.checkpoint import SIZES, write_toy_checkpoint
from lora_worker.toy.lora import ToyLora, write_toy_lora
from lora_worker.toy.lora import main as lora_main
from lora_worker.toy.pictures import draw, write_pictures
from lora_worker.toy.pictures import main as pictures_main
from lora_worker.toy.shapes import checkpoint_shapes


def test_the_quickstart_has_sdxls_names_and_modules():
    parts = json.loads((FIXTURES / "sdxl-keys.json").read_text())
    names = {name for part in parts.values() for name in part if not name.endswith(("position_ids", "logit_scale"))}
    architecture = SIZES["quickstart"]
    assert set(checkpoint_shapes(architecture)) == names
    modules = {row["lora_key"] for row in json.loads((FIXTURES / "sdxl-lora-modules.json").read_text())}
    assert {target.name for target in lora_targets(architecture)} == modules


def test_the_file_says_its_architecture(toy_checkpoint):
    shapes = {name: entry.shape for name, entry in read_header(toy_checkpoint).tensors.items()}
    assert read_architecture(shapes, name="toy") == SIZES["test"]


def test_the_same_call_writes_the_same_bytes_whatever_the_global_seed(toy_checkpoint, tmp_path):
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    write_toy_checkpoint(tmp_path / "again.safetensors", "test")
    assert (tmp_path / "again.safetensors").read_bytes() == toy_checkpoint.read_bytes()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_latents_have_the_spread_that_sdxls_scale_expects(toy_vae):
    pictures = torch.stack([to_tensor(draw(index, (128, 128)).image) for index in range(50, 56)])
    with torch.no_grad():
        posterior = toy_vae.encode(pictures).latent_dist
    scaled = posterior.mean * VAE_SCALE
    assert 0.7 < scaled.std() < 1.4
    assert scaled.mean().abs() < 0.4
    assert (posterior.std * VAE_SCALE).mean() < 0.1


def test_the_unet_answers_with_moderate_numbers_that_depend_on_all_inputs(toy_models):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, 8, 8, generator=generator)

    def answer(caption="cat", timestep=500, size=(64, 64), latents=latents):
        context, pooled = toy_models.text.encode([caption])
        sizes = torch.tensor([size_embedding_inputs(size, (0, 0), (64, 64))])
        with torch.no_grad():
            return toy_models.predict(latents, torch.tensor([timestep]), context, pooled, sizes)

    base = answer()
    assert 0.01 < base.std() < 2
    for other in (answer("red dog"), answer(timestep=20), answer(size=(512, 300)), answer(latents=latents * 0.5)):
        assert (other - base).abs().max() > 1e-4


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_pictures_are_a_training_set_of_many_kinds(tmp_path):
    write_pictures(tmp_path)
    images = [path for path in tmp_path.rglob("*") if path.suffix not in ("", ".txt")]
    assert {path.suffix for path in images} == {".png", ".jpg", ".jpeg", ".webp"}
    assert all(path.with_suffix(".txt").read_text().startswith("roundling, solo, ") for path in images)
    opened = {path.name: Image.open(path) for path in images}
    shapes = {(image.width > image.height) - (image.width < image.height) for image in opened.values()}
    assert shapes == {-1, 0, 1}
    assert opened["07-phone.jpg"].getexif()[0x0112] == 6
    assert opened["08-sticker.png"].mode == "RGBA"


def test_pictures_come_out_the_same_twice(tmp_path):
    write_pictures(tmp_path / "one")
    write_pictures(tmp_path / "two")
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_both_programs_run_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["toy", str(tmp_path / "new" / "toy.safetensors"), "--size", "test"])
    toy_main()
    assert (tmp_path / "new" / "toy.safetensors").stat().st_size > 1_000_000
    monkeypatch.setattr("sys.argv", ["pictures", str(tmp_path / "pictures")])
    pictures_main()
    assert len(list((tmp_path / "pictures").rglob("*.txt"))) == 12


@pytest.mark.parametrize("names", ["kohya", "peft"])
def test_a_toy_lora_adapts_modules_of_its_checkpoint_most_of_all_in_one_block(tmp_path, monkeypatch, names):
    path = tmp_path / "new" / "lora.safetensors"
    arguments = ["lora", str(path), "--size", "test", "--rank", "4", "--strong", "input_blocks.7", "--names", names]
    monkeypatch.setattr("sys.argv", arguments)
    lora_main()
    again = tmp_path / "again.safetensors"
    write_toy_lora(again, ToyLora(size="test", rank=4, strong="input_blocks.7", names=names))
    assert again.read_bytes() == path.read_bytes()

    tensors = load_file(path)
    down, up = (".lora_down", ".lora_up") if names == "kohya" else (".lora_A", ".lora_B")
    is_strong = re.compile(r"_input_blocks_7_" if names == "kohya" else r"down_blocks\.2\.attentions\.0\.")
    strengths = {True: [], False: []}
    for name, tensor in tensors.items():
        if f"{down}.weight" in name:
            partner = tensors[name.replace(down, up)]
            assert tensor.shape[0] == partner.shape[1] == 4
            delta = partner.float().flatten(1) @ tensor.float().flatten(1)
            strengths[bool(is_strong.search(name))].append((delta.norm() / partner.shape[0] ** 0.5).item())
    assert min(strengths[True]) > 5 * max(strengths[False]) > 0
    targets = lora_targets(SIZES["test"])
    assert len(strengths[True]) + len(strengths[False]) == sum(
        names == "kohya" or (target.component == "unet" and ".attn" in target.module_path) for target in targets
    )
