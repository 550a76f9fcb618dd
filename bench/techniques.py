"""What the trainer's techniques cost and bring where there is no GPU: full-width blocks of SDXL with random weights.

    OMP_WAIT_POLICY=passive PYTHONPATH=python python bench/techniques.py

A pass is forward and back to what flows in, as for a frozen block under adapters. Variants take turns, so that other
work on the machine meets all of them; times are the medians. Needs 2 GiB, and a C++ compiler for the compiled block.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lora_worker import fp8
from lora_worker.base_bytes import base_bytes
from lora_worker.bench.arithmetic import targets_of
from lora_worker.bench.options import RECIPE
from lora_worker.bench.recipe import Drawn, request
from lora_worker.dry_step import blank_batch
from lora_worker.loss import ImageLoss
from lora_worker.models import load_models, networks_of
from lora_worker.network import create
from lora_worker.random_base import SDXL, RandomBase
from lora_worker.toy.checkpoint import SIZES
from lora_worker.training import image_losses

ROUNDS = 7
_TINY = (64, 64)


class Calls(TorchDispatchMode):
    """Counts what is asked of the device. Views are nothing."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += not function.is_view
        return function(*args, **(kwargs or {}))


def main() -> None:
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, medians of {ROUNDS}\n")
    rounding()
    sizes()
    transformer()
    convolutions()
    conditioning()
    issuing()


def rounding() -> None:
    print("fp8: ‖Ŵ − W‖ / ‖W‖ of 1280x1280 weights, as a cast and with a factor for the tensor or for each row")
    rows = {
        f"normal, deviation {deviation}": torch.randn(1280, 1280) * deviation for deviation in (0.1, 0.03, 0.01, 0.003)
    }
    rows["rows from 1e-6 to 1"] = torch.randn(1280, 1280) * torch.logspace(-6, 0, 1280)[:, None]
    for name, weight in rows.items():
        cast = weight.to(fp8.FP8).float()
        factor = 2.0 ** torch.ceil(torch.log2(weight.abs().max() / 448))
        tensor = (weight / factor).to(fp8.FP8).float() * factor
        errors = [_error(weight, each) for each in (cast, tensor, fp8.whole(*fp8.split(weight)))]
        print(
            f"  {name:24s} {errors[0]:8.2%} {errors[1]:8.2%} {errors[2]:8.2%}   "
            "mean over rows "
            + " ".join(f"{_row_error(weight, each):8.2%}" for each in (cast, tensor, fp8.whole(*fp8.split(weight))))
        )


def _error(weight: Tensor, stored: Tensor) -> float:
    return ((stored - weight).norm() / weight.norm()).item()


def _row_error(weight: Tensor, stored: Tensor) -> float:
    return ((stored - weight).norm(dim=1) / weight.norm(dim=1)).mean().item()


def sizes() -> None:
    print("\nfrozen weights in bf16 while training, GiB: device, and host where blocks are swapped")
    for stored, count in product(("off", "unet", "on"), (0, 30, 60, 70)):
        size = base_bytes(SDXL, dtype=torch.bfloat16, fp8_base=stored, blocks_to_swap=count)
        print(
            f"  fp8_base = {stored:4s}  blocks_to_swap = {count:2d}   {size.all / 2**30:5.2f} {size.host / 2**30:5.2f}"
        )


def transformer() -> None:
    print("\na transformer block 1280 wide, one image of 1024x1024 (1024 tokens), bf16, ms for a pass")
    plain = _frozen(BasicTransformerBlock(1280, 20, 64, cross_attention_dim=2048, activation_fn="geglu"))
    small = _frozen(BasicTransformerBlock(1280, 20, 64, cross_attention_dim=2048, activation_fn="geglu"))
    small.load_state_dict(plain.state_dict())
    weights = {name: layer.weight.detach() for name, layer in small.named_modules() if isinstance(layer, nn.Linear)}
    biases = {name: layer.bias for name, layer in small.named_modules() if isinstance(layer, nn.Linear)}
    fp8.make_room(small)
    for name, layer in fp8.layers_of(small):
        q, layer.scale = fp8.split(weights[name])
        layer.weight, layer.bias = nn.Parameter(q, requires_grad=False), biases[name]
    compiled = torch.compile(plain, dynamic=False)
    compiled_small = torch.compile(small, dynamic=False)
    x, context = torch.randn(1, 1024, 1280).bfloat16(), torch.randn(1, 77, 2048).bfloat16()

    def run(block: Callable[..., Tensor]) -> Callable[[], None]:
        return lambda: _pass(lambda x: block(x, encoder_hidden_states=context), x)

    _compare(
        {"bf16": run(plain), "fp8": run(small), "bf16 compiled": run(compiled), "fp8 compiled": run(compiled_small)}
    )


def convolutions() -> None:
    for dtype in (torch.bfloat16, torch.float32):
        print(f"\na ResNet block 320 wide, one image of 1024x1024 (128x128), {dtype}, ms for a pass")
        made = ResnetBlock2D(in_channels=320, temb_channels=1280, groups=32)
        block = _frozen(made, dtype)
        last = _frozen(ResnetBlock2D(in_channels=320, temb_channels=1280, groups=32), dtype)
        last = last.to(memory_format=torch.channels_last)
        x, time_embedding = torch.randn(1, 320, 128, 128, dtype=dtype), torch.randn(1, 1280, dtype=dtype)
        x_last = x.to(memory_format=torch.channels_last)
        _compare(
            {
                "contiguous": lambda: _pass(lambda x: block(x, time_embedding), x),  # noqa: B023 (called at once)
                "channels_last": lambda: _pass(lambda x: last(x, time_embedding), x_last),  # noqa: B023
            }
        )


def conditioning() -> None:
    print("\ntime and size embeddings of a UNet pass at 1024x1024, without adapters: operator calls, and products")
    unet = networks_of(SDXL).unet
    with torch.device("meta"), Calls() as calls:
        inputs = torch.empty(1, 4, 128, 128), torch.empty(1)
        conditions = {"text_embeds": torch.empty(1, 1280), "time_ids": torch.empty(1, 6)}
        with _counted(calls, unet.time_proj, unet.time_embedding, unet.add_time_proj, unet.add_embedding) as ours:
            unet(*inputs, encoder_hidden_states=torch.empty(1, 77, 2048), added_cond_kwargs=conditions)
    parameters = [*unet.time_embedding.parameters(), *unet.add_embedding.parameters()]
    flops = 2 * sum(parameter.numel() for parameter in parameters)
    print(f"  {ours[0]} of {calls.count} calls; {flops / 1e6:.0f} MFLOP of 6.76 TFLOP")


def issuing() -> None:
    print("\nwhat the host does to order a pass: a toy with all of SDXL's layers, whose arithmetic is next to nothing, ms")
    options = replace(RECIPE, size="quickstart", resolution=64, dtype="fp32")
    base = RandomBase("a toy", SIZES[options.size], "cpu")
    asked = request(options, base, [Drawn("0.jpg", "", _TINY)], Path())
    models = load_models(base, device="cpu", dtype=torch.float32)
    network = create(models, targets_of(models, asked.settings), asked.settings.network, seed=0)
    batch = blank_batch(asked, _TINY, 1, models)
    loss = ImageLoss(
        asked.settings.loss, asked.settings.weights, prediction="epsilon", zero_terminal_snr=False, device=models.device
    )
    text = models.text.encode([""])

    def trained() -> None:
        image_losses(models, batch, loss, dtype=torch.float32, trains_text=True).sum().backward()

    @torch.no_grad()
    def sampled() -> None:
        models.predict(batch.noisy_B4HW, batch.timesteps_B, *text, batch.sizes_B6)

    network.attach()
    _compare({"micro-batch": trained, "of a picture": sampled})
    print("the arithmetic of SDXL on an H200, at 790 TFLOP/s, ms")
    for images in (1, 8):
        print(f"  micro-batch {images}    {16.8 * images / 0.79:8.0f}")
    print(f"  of a picture     {2 * 6.76 / 0.79:8.0f}   with guidance")


@contextmanager
def _counted(calls: Calls, *modules: nn.Module):
    """How many calls happen within these modules."""
    total, began = [0], [0]
    for module in modules:
        module.register_forward_pre_hook(lambda *_: began.__setitem__(0, calls.count))
        module.register_forward_hook(lambda *_: total.__setitem__(0, total[0] + calls.count - began[0]))
    yield total


def _frozen(module: nn.Module, dtype: torch.dtype = torch.bfloat16) -> nn.Module:
    return module.to(dtype).requires_grad_(False).eval()


def _pass(function: Callable[[Tensor], Tensor], x: Tensor) -> None:
    into = x.detach().requires_grad_()
    output = function(into)
    output.backward(torch.ones_like(output))


def _compare(variants: Mapping[str, Callable[[], None]]) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for run in variants.values():
        run()
    for _ in range(ROUNDS):
        for name, run in variants.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    first = statistics.median(next(iter(seconds.values())))
    for name, each in seconds.items():
        middle = statistics.median(each)
        spread = f"from {min(each) * 1e3:.0f} to {max(each) * 1e3:.0f}"
        print(f"  {name:16s} {middle * 1e3:8.0f}   x {middle / first:.2f}   {spread}")


if __name__ == "__main__":
    main()
