"""Our LoRA files in diffusers and PEFT: every module is found, and computes there what it computes here."""

from __future__ import annotations

import pytest
import torch

from lora_worker import adapters
from lora_worker.families import change_of, decomposed, family_of
from lora_worker.lora_file import write_lora
from lora_worker.models import load_models, load_vae
from lora_worker.network import Network, create
from lora_worker.network_settings import NetworkSettings, Ranks
from lora_worker.network_targets import trainable

pytest.importorskip("peft", reason="it is in requirements-test.lock")

from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionXLPipeline
from peft import LoHaConfig, LoKrConfig, LoraConfig, inject_adapter_in_model
from torch import nn

# diffusers hands tensors to numpy in a way that numpy 2 frowns upon.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")


def network_of(models, targets, ranks):
    """With branches that do something."""
    network = create(models, targets, NetworkSettings(ranks), seed=0)
    generator = torch.Generator().manual_seed(1)
    for branch in network.branches.values():
        branch.up.data.normal_(std=0.1, generator=generator)
    return network


def trained(models):
    return network_of(models, trainable(models.targets()), Ranks(2, 1, 4, 3))


def resized_and_chopped(models):
    """As `resize` and `chop` leave it: some blocks, and a rank of its own for every module. The alphas are still those
    of training; where they differ among attention layers, diffusers applies the most common one to all of them."""
    network = trained(models)
    chosen = [name for name in network.branches if "_output_blocks_1_" in name or "_layers_0_" in name]
    branches = []
    for place, name in enumerate(chosen):
        target = network.branches[name].target
        alpha = network.branches[name].alpha
        rank = 1 + place % 5
        branches += network_of(models, [target], Ranks(rank, alpha, rank, alpha)).branches.values()
    return Network(models, branches)


@torch.no_grad()
def answers(models):
    """Context, pooled text, and the UNet's output."""
    context, pooled = models.text.encode(["roundling, red scarf"])
    latents = torch.randn(1, 4, 12, 8, generator=torch.Generator().manual_seed(1))
    sizes = torch.tensor([[96, 64, 0, 0, 96, 64]])
    return context, pooled, models.predict(latents, torch.tensor([500]), context, pooled, sizes)


@pytest.mark.parametrize("make", [trained, resized_and_chopped])
def test_a_lora_changes_all_models_as_it_does_here(toy_checkpoint, tmp_path, make):
    models = load_models(toy_checkpoint, device="cpu", dtype=torch.float32)
    network = make(models)
    path = tmp_path / "lora.safetensors"
    write_lora(path, network, {}, dtype=torch.float16)
    bare = answers(models)
    with adapters.applied(models, path):
        ours = answers(models)

    # From here on the models are PEFT's.
    pipeline = StableDiffusionXLPipeline(
        load_vae(toy_checkpoint, device="cpu", dtype=torch.float32),
        models.text.one,
        models.text.two,
        None,
        None,
        models.unet,
        EulerAncestralDiscreteScheduler(),
        add_watermarker=False,
    )
    pipeline.load_lora_weights(path)
    found = sum(
        name.endswith(".weight") and "lora_A" in name
        for model in (models.unet, models.text.one, models.text.two)
        for name, _ in model.named_parameters()
    )
    assert found == len(network.branches)
    for without, here, there in zip(bare, ours, answers(models), strict=True):
        change = (here - without).norm()
        assert change > 0.01 * without.norm()
        assert (there - here).norm() < 1e-4 * change


CHANNELS, WIDTH, RANK = 24, 32, 2


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize(
    "config",
    [
        LoHaConfig(r=RANK, alpha=3, target_modules=["0"]),
        LoHaConfig(r=RANK, alpha=3, target_modules=["0"], use_effective_conv2d=True),
        LoKrConfig(r=RANK, alpha=3, target_modules=["0"]),
        LoKrConfig(r=64, alpha=64, target_modules=["0"]),
        LoKrConfig(r=RANK, alpha=3, target_modules=["0"], use_effective_conv2d=True, decompose_both=True),
        LoraConfig(r=RANK, lora_alpha=3, target_modules=["0"], use_dora=True),
    ],
    ids=["LoHa", "Tucker LoHa", "LoKr", "whole LoKr", "Tucker LoKr", "DoRA"],
)
def test_a_family_does_to_a_layer_what_it_does_in_peft(kind, config):
    torch.manual_seed(0)
    layer = nn.Linear(CHANNELS, WIDTH) if kind == "linear" else nn.Conv2d(CHANNELS, WIDTH, 3, stride=2, padding=1)
    base = layer.weight.detach().clone()
    model = inject_adapter_in_model(config, nn.Sequential(layer))
    names = {
        "lora_A.default.weight": "lora_down.weight",
        "lora_B.default.weight": "lora_up.weight",
        "lora_magnitude_vector.default.weight": "dora_scale",
    }
    parts = {}
    for name, parameter in model[0].named_parameters():
        if not name.startswith("base_layer"):
            parameter.data += torch.randn(parameter.shape) * 0.5
            parts[names.get(name, name.removesuffix(".default"))] = parameter.data
    x = torch.randn(5, CHANNELS, *(() if kind == "linear" else (7, 9)))

    change = change_of(family_of(set(parts)), parts, base.shape, 3.0)
    with torch.no_grad():
        if "dora_scale" in parts:
            layer.weight.data = decomposed(base, change.delta(base), parts["dora_scale"], on_output=True)
            ours = layer(x)
            layer.weight.data = base
        else:
            ours = layer(x) + change.beside(layer, x, 1.0)
        theirs = model(x)
        assert (theirs - layer(x)).norm() > 0.1 * theirs.norm()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
