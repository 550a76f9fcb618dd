"""Loading takes no more memory than what is loaded, and besides one tensor: a small card can load what it can train."""

from __future__ import annotations

import pytest
import torch
from pretended_gpu import pretended_gpu

from lora_worker import fp8, models
from lora_worker.base_bytes import base_bytes, loaded_bytes
from lora_worker.live_bytes import LiveBytes
from lora_worker.models import load_models, load_vae, networks_of
from lora_worker.safetensors_file import read_header, write_safetensors
from lora_worker.swapping import swap
from lora_worker.toy.checkpoint import toy_architecture
from lora_worker.toy.shapes import checkpoint_shapes
from lora_worker.transformer_blocks import swapped_blocks

# As in SDXL, and not in the smaller toys, what becomes fp8 is larger than tables of tokens.
WIDE = toy_architecture(
    widths=(32, 64, 384), depths=(0, 0, 1), layers=(2, 2), text_widths=(32, 32), vae=(32, 32, 64, 64)
)
PIECE = 2**12


class OnADevice(LiveBytes):
    """Networks without memory are made beside it."""

    def _count(self, tensor):
        if not tensor.is_meta:
            super()._count(tensor)


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    path = tmp_path_factory.mktemp("wide") / "wide.safetensors"
    write_safetensors(path, {name: torch.zeros(shape).half() for name, shape in checkpoint_shapes(WIDE).items()})
    return path


def largest_in(path):
    return max(entry.end - entry.start for entry in read_header(path).tensors.values())


@pytest.mark.parametrize("fp8_base", ["off", "unet", "on"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
def test_loading_needs_what_is_loaded_and_one_tensor(wide, monkeypatch, fp8_base, dtype):
    monkeypatch.setattr(models, "_PIECE", PIECE)
    with OnADevice() as live:
        loaded = load_models(wide, device="cpu", dtype=dtype, fp8_base=fp8_base)
    planned = base_bytes(WIDE, dtype=dtype, fp8_base=fp8_base).all
    assert loaded_bytes(loaded).all == planned
    # Of a piece that becomes fp8 there are a few copies. A row may be larger than a piece.
    rows = max(module.weight[0].numel() for _, module in fp8.layers_of(networks_of(WIDE, "on").unet))
    assert live.peak <= planned + largest_in(wide) + 8 * 4 * max(PIECE, rows)


@pytest.mark.parametrize("fp8_base", ["off", "on"])
@pytest.mark.parametrize("count", [3, 70])
def test_blocks_that_will_be_swapped_are_never_on_a_gpu_together(wide, monkeypatch, fp8_base, count):
    monkeypatch.setattr(models, "_PIECE", PIECE)
    planned = base_bytes(WIDE, dtype=torch.bfloat16, fp8_base=fp8_base, blocks_to_swap=count)
    with pretended_gpu(monkeypatch) as gpu:
        loaded = load_models(wide, device="cuda", dtype=torch.bfloat16, fp8_base=fp8_base, blocks_to_swap=count)
        waiting = swapped_blocks(loaded.unet, count)
        assert len(waiting) == min(count, 6)
        assert {tensor.device.type for block in waiting for tensor in tensors_of(block)} == {"cpu"}
        swapping = swap(loaded, count)
        assert {tensor.device.type for block in waiting for tensor in tensors_of(block)} == {"cuda"}
        assert gpu.memory.peak <= planned.all + largest_in(wide)
        assert swapping.host_bytes == planned.host
        swapping.stop()


def test_blocks_that_wait_have_the_weights_that_they_would_have_on_the_gpu(toy_checkpoint, monkeypatch):
    with pretended_gpu(monkeypatch):
        how = {"device": "cuda", "dtype": torch.bfloat16, "fp8_base": "on"}
        kept, waiting = (load_models(toy_checkpoint, **how, blocks_to_swap=count).unet for count in (0, 2))
        assert not all(tensor.is_cuda for tensor in waiting.parameters())
        for one, other in zip(tensors_of(kept), tensors_of(waiting), strict=True):
            assert torch.equal(one.cpu().view(torch.uint8), other.cpu().view(torch.uint8))


def tensors_of(module):
    return [*module.parameters(), *module.buffers()]


def test_loading_a_vae_needs_what_is_loaded_and_one_tensor(wide):
    with OnADevice() as live:
        vae = load_vae(wide, device="cpu", dtype=torch.float32)
    loaded = sum(tensor.untyped_storage().nbytes() for tensor in tensors_of(vae))
    assert live.peak <= loaded + largest_in(wide)


def test_weights_that_become_fp8_in_pieces_are_the_same(toy_checkpoint, toy_models, monkeypatch):
    monkeypatch.setattr(models, "_PIECE", 1000)
    pieces = load_models(toy_checkpoint, device="cpu", dtype=torch.float32, fp8_base="on")
    found = wrong = right = 0
    roots = (
        (pieces.unet, toy_models.unet),
        (pieces.text.one, toy_models.text.one),
        (pieces.text.two, toy_models.text.two),
    )
    for root, exact in roots:
        for name, layer in fp8.layers_of(root):
            weight = exact.get_submodule(name).weight
            q, scale = fp8.split(weight)
            assert torch.equal(layer.weight.view(torch.uint8), q.view(torch.uint8)) and torch.equal(layer.scale, scale)
            found += weight.numel() > 1000
            wrong += (fp8.whole(q, scale) - weight).square().sum().item()
            right += weight.square().sum().item()
    assert found > 20
    assert pieces.fp8_error == pytest.approx((wrong / right) ** 0.5, rel=1e-4)
