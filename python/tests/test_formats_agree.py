"""LoRAs in the formats that lorac writes, in diffusers and PEFT: every module is found, and has our ΔW."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lora_worker import adapters
from lora_worker.models import load_models, load_vae

pytest.importorskip("peft", reason="it is in requirements-test.lock")

from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionXLPipeline
from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer

pytestmark = [
    # diffusers hands tensors to numpy in a way that numpy 2 frowns upon.
    pytest.mark.filterwarnings("ignore:__array__ implementation"),
    pytest.mark.skipif(shutil.which("node") is None, reason="the files are written by lorac, which needs Node"),
]

LORAC = Path(__file__).parents[2] / "bin" / "lorac.mjs"


def written(path, format_name):
    """The same LoRA in another format."""
    output = path.with_name(f"{path.stem}-{format_name}.safetensors")
    command = ["node", LORAC, "chop", path, "--format", format_name, "-o", output]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return output


def kohya_file(path, targets, *, rank, alpha, dora=False):
    """Modules with random factors; `rank` and `alpha` say theirs from their place. Gives ΔW by name, in doubles."""
    generator = torch.Generator().manual_seed(0)
    tensors, deltas = {}, {}
    for place, target in enumerate(targets):
        kernel = {"linear": (), "conv1x1": (1, 1), "conv3x3": (3, 3)}[target.kind]
        r, a = rank(place), alpha(place)
        up_OR = (torch.randn(target.out_features, r, generator=generator) * 0.1).half()
        down_RI = (torch.randn(r, target.in_features, *kernel, generator=generator) * 0.1).half()
        tensors[f"{target.name}.lora_up.weight"] = up_OR.reshape(*up_OR.shape, *(1 for _ in kernel)).contiguous()
        tensors[f"{target.name}.lora_down.weight"] = down_RI
        tensors[f"{target.name}.alpha"] = torch.tensor(float(a))
        if dora:
            scale = torch.rand(target.out_features, generator=generator) + 0.5
            tensors[f"{target.name}.dora_scale"] = scale.reshape(-1, 1, *kernel_ones(kernel))
        delta = a / r * (up_OR.double() @ down_RI.double().flatten(1))
        deltas[target.name] = delta.reshape(target.out_features, target.in_features, *kernel)
    save_file(tensors, path)
    return deltas


def kernel_ones(kernel):
    return tuple(1 for _ in kernel)


def mixed(place):
    """Ranks from 1 to 5, the smallest the most frequent."""
    return max(1, place % 7 - 1)


def with_signs(place):
    """Scales that halves would round, of both signs, 1 and -1 among them."""
    return (3.0, -1.7, float(mixed(place)), -float(mixed(place)), 0.37)[place % 5]


@pytest.fixture
def models(toy_checkpoint):
    """Not shared: PEFT changes them for good."""
    return load_models(toy_checkpoint, device="cpu", dtype=torch.float32)


def pipeline_of(models, checkpoint):
    return StableDiffusionXLPipeline(
        load_vae(checkpoint, device="cpu", dtype=torch.float32),
        models.text.one,
        models.text.two,
        None,
        None,
        models.unet,
        EulerAncestralDiscreteScheduler(),
        add_watermarker=False,
    )


def layers_of(models, targets):
    """PEFT's layer of each target by the target's name; missing ones are missing."""
    networks = {"unet": models.unet, "te1": models.text.one, "te2": models.text.two}
    found = {}
    for target in targets:
        layer = networks[target.component].get_submodule(target.module_path)
        if isinstance(layer, LoraLayer):
            found[target.name] = layer
    return found


def expect_deltas(models, targets, deltas):
    layers = layers_of(models, targets)
    assert layers.keys() == deltas.keys()
    for name, layer in layers.items():
        (adapter,) = layer.active_adapters
        found = layer.get_delta_weight(adapter).double()
        assert (found - deltas[name]).norm() < 1e-6 * deltas[name].norm(), name


@torch.no_grad()
def answers(models):
    """Context, pooled text, and the UNet's output."""
    context, pooled = models.text.encode(["roundling, red scarf"])
    latents = torch.randn(1, 4, 12, 8, generator=torch.Generator().manual_seed(1))
    sizes = torch.tensor([[96, 64, 0, 0, 96, 64]])
    return context, pooled, models.predict(latents, torch.tensor([500]), context, pooled, sizes)


def test_diffusers_gives_every_module_of_its_format_our_delta(models, toy_checkpoint, tmp_path):
    targets = models.targets()
    path = tmp_path / "hero.safetensors"
    deltas = kohya_file(path, targets, rank=mixed, alpha=with_signs)
    bare = answers(models)
    with adapters.applied(models, path):
        ours = answers(models)
    pipeline_of(models, toy_checkpoint).load_lora_weights(written(path, "diffusers"))
    expect_deltas(models, targets, deltas)
    for without, here, there in zip(bare, ours, answers(models), strict=True):
        change = (here - without).norm()
        assert change > 0.01 * without.norm()
        assert (there - here).norm() < 1e-4 * change


def test_the_scales_hold_where_nobody_reads_the_settings(models, toy_checkpoint, tmp_path):
    targets = models.targets()
    path = tmp_path / "hero.safetensors"
    deltas = kohya_file(path, targets, rank=lambda _: 3, alpha=with_signs)
    tensors = load_file(written(path, "diffusers"))
    pipeline_of(models, toy_checkpoint).load_lora_weights(tensors)
    expect_deltas(models, targets, deltas)


def test_peft_alone_loads_it_with_the_settings_of_the_header(models, tmp_path):
    targets = [target for target in models.targets() if target.component == "unet"]
    path = tmp_path / "hero.safetensors"
    deltas = kohya_file(path, targets, rank=mixed, alpha=with_signs)
    output = written(path, "diffusers")
    with safe_open(output, framework="pt") as file:
        settings = json.loads(file.metadata()["lora_adapter_metadata"])
    prefix = "unet."
    config = LoraConfig(**{name.removeprefix(prefix): value for name, value in settings.items()})
    inject_adapter_in_model(config, models.unet)
    tensors = {name.removeprefix(prefix): value for name, value in load_file(output).items()}
    result = set_peft_model_state_dict(models.unet, tensors)
    assert not result.unexpected_keys
    expect_deltas(models, targets, deltas)


@torch.no_grad()
def test_a_dora_is_the_same_dora_in_diffusers(models, toy_checkpoint, tmp_path):
    targets = models.targets()
    path = tmp_path / "hero.safetensors"
    deltas = kohya_file(path, targets, rank=mixed, alpha=with_signs, dora=True)
    magnitudes = load_file(path)
    networks = {"unet": models.unet, "te1": models.text.one, "te2": models.text.two}
    wanted = {}
    for target in targets:
        base = networks[target.component].get_submodule(target.module_path).weight.double()
        changed = base + deltas[target.name]
        norm = changed.flatten(1).norm(dim=1).reshape(-1, *(1 for _ in base.shape[1:]))
        wanted[target.name] = magnitudes[f"{target.name}.dora_scale"].double() * changed / norm
    pipeline_of(models, toy_checkpoint).load_lora_weights(written(path, "diffusers"))
    layers = layers_of(models, targets)
    assert layers.keys() == wanted.keys()
    for name, layer in layers.items():
        layer.merge()
        found = layer.get_base_layer().weight.double()
        assert (found - wanted[name]).norm() < 1e-5 * wanted[name].norm(), name


@pytest.mark.parametrize("format_name", ["kohya", "kohya-diffusers"])
def test_diffusers_loads_kohyas_formats_made_of_its_own(models, toy_checkpoint, tmp_path, format_name):
    targets = models.targets()
    path = tmp_path / "hero.safetensors"
    # diffusers gives the attention layers of such a file one alpha, whatever each of them says.
    deltas = kohya_file(path, targets, rank=lambda _: 3, alpha=lambda _: -1.7)
    output = written(written(path, "diffusers"), format_name)
    pipeline_of(models, toy_checkpoint).load_lora_weights(output)
    expect_deltas(models, targets, deltas)
