"""Our LoRA files in diffusers and PEFT: every module is found, and computes there what it computes here."""

from __future__ import annotations

import pytest
import torch

from lora_worker import locon
from lora_worker.lora_file import write_lora
from lora_worker.models import load_models, load_vae

pytest.importorskip("peft", reason="it is in requirements-test.lock")

from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionXLPipeline

# diffusers hands tensors to numpy in a way that numpy 2 frowns upon.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")


def network_of(models, targets, shape):
    """With branches that do something."""
    network = locon.create(models, targets, shape, seed=0)
    generator = torch.Generator().manual_seed(1)
    for branch in network.branches.values():
        branch.up.data.normal_(std=0.1, generator=generator)
    return network


def trained(models):
    return network_of(models, locon.trainable(models.targets()), locon.LoConShape(2, 1, 4, 3))


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
        branches += network_of(models, [target], locon.LoConShape(rank, alpha, rank, alpha)).branches.values()
    return locon.LoCon(models, branches)


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
    with locon.applied(models, path):
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
