"""How well the memory plan counts, and what it chooses for cards of common sizes.

    PYTHONPATH=python $(lorac env --python) bench/memory.py --check

Full-size SDXL at 1024x1024 in bf16 on tensors that have a shape and no memory: nothing here needs a GPU, or measures
one. `counted` is what the plan says of a forward and a backward pass, `needed` what all tensors of such a pass had at
most, operation by operation. Not in it: gaps between tensors, and what kernels use inside.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from lora_worker.architecture import Architecture, TextShape, UNetShape, VaeShape
from lora_worker.base_bytes import base_bytes
from lora_worker.branches import new_branch
from lora_worker.checkpointing import checkpoint_blocks
from lora_worker.fp8 import Fp8Base
from lora_worker.live_bytes import LiveBytes
from lora_worker.memory_plan import USABLE, Needs, Plan, choose, describe
from lora_worker.memory_profile import Profile, profile
from lora_worker.models import Models, weightless_models
from lora_worker.naming import LoraTarget
from lora_worker.network import Network
from lora_worker.network_settings import NetworkSettings, parse_network
from lora_worker.network_targets import chosen_targets
from lora_worker.protocol import Fields

GIB = 2**30
GB = 10**9
SDXL = Architecture(
    unet=UNetShape((320, 640, 1280), (0, 2, 10), 1280, 2048, 2816),
    te1=TextShape(12, 768, 3072, 49408),
    te2=TextShape(32, 1280, 5120, 49408),
    pooled_width=1280,
    vae=VaeShape((128, 256, 512, 512)),
)
NETWORK = {
    **{"kind": "locon", "preset": "full", "modules": [], "text_encoder_modules": "all", "train_norm": False},
    **{"dim": 8, "alpha": 4, "conv_dim": 256, "conv_alpha": 4, "dims": {}, "conv_dims": {}, "rs_lora": False},
    **{"use_tucker": False, "dropout": 0, "rank_dropout": 0, "rank_dropout_scale": False, "module_dropout": 0},
}
DESKTOP = GB
"""What a driver and a desktop take of a card: a guess."""


@dataclass(frozen=True)
class Recipe:
    name: str
    network: NetworkSettings
    size: int
    batch_size: int
    accumulation: int
    trains_text: bool
    fp8_base: Fp8Base = "off"

    def losses(self, models: Models, images: int) -> Tensor:
        ids_BNT = torch.zeros(images, 1, 77, dtype=torch.int64)
        with torch.set_grad_enabled(self.trains_text):
            context, pooled = models.text.encode_ids(ids_BNT, ids_BNT)
        latents = torch.zeros(images, 4, self.size // 8, self.size // 8, dtype=torch.bfloat16)
        timesteps, sizes = torch.zeros(images, dtype=torch.int64), torch.zeros(images, 6)
        return models.predict(latents, timesteps, context, pooled, sizes).float().square().flatten(1).mean(1)

    def targets(self, models: Models) -> list[LoraTarget]:
        components = frozenset(("unet", "te1", "te2") if self.trains_text else ("unet",))
        return list(chosen_targets(models.targets(), self.network, components))

    def needs(self, counted: Profile, static: int, between: int) -> Needs:
        return Needs(
            counted, static, self.batch_size, may_checkpoint=True, must_checkpoint=False, between=between
        )


def network(**changes: object) -> NetworkSettings:
    return parse_network(Fields({**NETWORK, **changes}, "network"))


RECIPES = (
    Recipe("guide", network(), 1024, 8, 6, trains_text=True),
    Recipe("guide with fp8_base", network(), 1024, 8, 6, trains_text=True, fp8_base="on"),
    Recipe("low-vram", network(conv_dim=16), 1024, 8, 6, trains_text=True),
    Recipe("low-vram with fp8_base", network(conv_dim=16), 1024, 8, 6, trains_text=True, fp8_base="on"),
    Recipe("lowest-vram", network(preset="attn-only"), 768, 8, 6, trains_text=False, fp8_base="on"),
)


def main() -> None:
    logging.disable(logging.WARNING)
    for recipe in RECIPES:
        models = weightless_models(SDXL, torch.bfloat16)
        targets = recipe.targets(models)
        counted = profile(SDXL, recipe.network, targets, dtype=torch.bfloat16, device="cpu", losses=recipe.losses)
        weights = base_bytes(SDXL, dtype=torch.bfloat16, fp8_base=recipe.fp8_base).all
        beside = 4 * sum(size_of(target, recipe.network, models) for target in targets)
        # The network, its gradients, and the two moments of SAVEUS, all fp32.
        needs = recipe.needs(counted, weights + 4 * beside, beside)
        print(f"\n{recipe.name}: {recipe.size}x{recipe.size}, batch {recipe.batch_size} x {recipe.accumulation}")
        print(f"  weights {weights / GIB:.2f} GiB, network {beside / GIB:.2f}, four times: {4 * beside / GIB:.2f}")
        everything = frozenset(block.name for block in counted.blocks)
        for name, chosen in (("none", frozenset[str]()), ("all", everything)):
            kept = counted.peak(2, chosen) - counted.peak(1, chosen)
            print(f"  {name:4} checkpointed: {kept / GIB:.3f} GiB for each image")
        print(f"  computing all again: {counted.recomputed(everything) / 1e12:.2f} TFLOP for each image")
        # What the weights are stored in does not change what a pass keeps.
        if "--check" in sys.argv and recipe.fp8_base == "off":
            for plan in {choose(needs, int(card * GB)) for card in (10, 12, 16)}:
                check(recipe, needs, plan, targets)
        for card in (8, 10, 12, 16, 24, 32, 48, 80, 141):
            plan = choose(needs, int(USABLE * (card * GB - DESKTOP)))
            line = describe(
                plan,
                batch_size=recipe.batch_size,
                accumulation=recipe.accumulation,
                blocks=len(counted.blocks),
                total=card * GB,
            )
            fits = "" if plan.bytes <= USABLE * (card * GB - DESKTOP) else "  does not fit"
            again = counted.recomputed(plan.checkpointed) / counted.flops / 2.2
            print(f"  {card:4} GB: {line}, {again:.0%} more work{fits}", flush=True)


def check(recipe: Recipe, needs: Needs, plan: Plan, targets: list[LoraTarget]) -> None:
    models = weightless_models(SDXL, torch.bfloat16)
    with FakeTensorMode(allow_non_fake_inputs=True):
        parts = (models.unet, models.text.one, models.text.two)
        for part in parts:
            part.to_empty(device="cpu")
        made = Network(models, [new_branch(each, models.module_of(each), recipe.network, seed=0) for each in targets])
        made.attach()
        parameters = [parameter for _, parameter in made.named_parameters()]
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        checkpoint_blocks(models, plan.checkpointed)
        weights = [tensor for part in parts for tensor in (*part.parameters(), *part.buffers())]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        with LiveBytes(known=[*weights, *parameters, *gradients]) as live:
            recipe.losses(models, plan.micro_batch).mean().backward()
    counted = needs.profile.peak(plan.micro_batch, plan.checkpointed)
    what = f"{plan.micro_batch} images, {len(plan.checkpointed)} blocks checkpointed"
    whole = (counted - live.peak) / (needs.static + live.peak)
    off = (counted - live.peak) / live.peak
    print(f"  {what}: counted {counted / GIB:.3f}, needed {live.peak / GIB:.3f} GiB, {off:+.1%}, of all {whole:+.1%}")


def size_of(target: LoraTarget, settings: NetworkSettings, models: Models) -> int:
    out, into, *kernel = models.module_of(target).get_parameter("weight").shape
    assert settings.ranks is not None
    rank = settings.ranks.of(target)[0]
    return rank * (into * (kernel[0] * kernel[1] if kernel else 1) + out)


if __name__ == "__main__":
    main()
