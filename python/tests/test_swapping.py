"""Blocks whose weights wait elsewhere: the same numbers, in little memory, and each on its way before it is needed."""

from __future__ import annotations

import pytest
import torch
from network_samples import KINDS
from pretended_gpu import pretended_gpu
from test_kinds import made, moved
from training_lab import TrainingLab

from lora_worker import dry_step
from lora_worker.base_bytes import base_bytes, loaded_bytes
from lora_worker.checkpointing import set_checkpointing
from lora_worker.models import load_models
from lora_worker.step_memory import StepMemory
from lora_worker.swapping import AtOnce, Lane, Swapping, swap
from lora_worker.toy.checkpoint import SIZES
from lora_worker.transformer_blocks import block_bytes, swapped_blocks, transformer_blocks


class Slow(Lane):
    """Copies arrive when they are waited for, as late as a device may do it. Before that, there is rubbish."""

    device = torch.device("cpu")

    def __init__(self):
        self.on_the_way = []

    def host_copy(self, tensor):
        return tensor.clone()

    def fill(self, pairs):
        for tensor, host in pairs:
            tensor.view(torch.uint8).fill_(0xFF)
            assert host.shape == tensor.shape
        self.on_the_way.append(pairs)
        return pairs

    def wait(self, ticket):
        if any(ticket is pairs for pairs in self.on_the_way):
            AtOnce().fill(ticket)
            self.on_the_way = [pairs for pairs in self.on_the_way if pairs is not ticket]


@pytest.fixture(scope="module", params=["off", "on"], ids=["whole", "fp8"])
def models(request, toy_checkpoint):
    return load_models(toy_checkpoint, device="cpu", dtype=torch.float32, fp8_base=request.param)


def alike(found, wanted):
    """To rounding: gradients that meet in the text may be added in another order."""
    return all(
        torch.allclose(one, other, rtol=1e-4, atol=1e-5 * other.abs().max().item())
        for one, other in zip(found, wanted, strict=True)
    )


def resident(blocks):
    return sum(
        tensor.untyped_storage().nbytes() for block in blocks for tensor in [*block.parameters(), *block.buffers()]
    )


def passes(models, network, count=2):
    """Gradients of some passes forward and back, with text encoders that learn, and a picture's pass in between."""
    generator = torch.Generator().manual_seed(4)
    found = []
    for _ in range(count):
        context, pooled = models.text.encode(["fox", "hill, tree"])
        inputs = torch.randn(2, 4, 8, 12, generator=generator), torch.tensor([3, 700])
        output = models.predict(*inputs, context, pooled, torch.full((2, 6), 64.0))
        output.square().mean().backward()
        found += [output.detach(), *(parameter.grad.clone() for _, parameter in network.named_parameters())]
        for _, parameter in network.named_parameters():
            parameter.grad = None
        with torch.no_grad():
            found.append(models.predict(*inputs, context, pooled, torch.full((2, 6), 64.0)))
    return found


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("count", [2, 70])
def test_swapped_blocks_give_the_same_gradients_in_the_memory_of_two(models, checkpointing, count):
    network = moved(made(models, KINDS["locon"]))
    network.attach()
    set_checkpointing(models, checkpointing)
    blocks = swapped_blocks(models.unet, count)
    try:
        wanted = passes(models, network)
        before = resident(blocks)
        swapping = Swapping(blocks, Slow())
        assert resident(blocks) == 0
        assert swapping.host_bytes == before
        found = passes(models, network)
        swapping.restore()
    finally:
        network.remove()
        set_checkpointing(models, False)
    assert alike(found, wanted)
    assert swapping.most_resident <= 2 * max(map(block_bytes, blocks))
    fp8_base = "off" if models.fp8_error == 0 else "on"
    planned = base_bytes(models.architecture, dtype=torch.float32, fp8_base=fp8_base, blocks_to_swap=count)
    assert (planned.host, planned.unet - loaded_bytes(models).unet) == (before, swapping.most_resident - before)
    # Only the very first block was waited for.
    assert swapping.late == 1
    assert resident(blocks) == before


def test_who_counts_memory_sees_two_blocks_for_which_no_pass_waits(models):
    network = moved(made(models, KINDS["locon"]))
    network.attach()
    blocks = swapped_blocks(models.unet, 6)
    swapping = Swapping(blocks, Slow())
    try:
        swapping.begin()
        assert resident(blocks) == sum(map(block_bytes, blocks[:2]))
        swapping.begin()
        passes(models, network, 1)
        assert swapping.late == 1
        here = resident(blocks)
        swapping.begin()
        assert resident(blocks) == here
    finally:
        swapping.restore()
        network.remove()


def test_a_plan_counts_those_blocks_on_the_gpu_that_will_be_there(tmp_path, toy_checkpoint, monkeypatch):
    class Planned(Exception):
        pass

    def make_plan(self, profile, static, missing, between):
        raise Planned(static - missing - between)

    monkeypatch.setattr(StepMemory, "make_plan", make_plan)
    monkeypatch.setattr(dry_step, "profile", lambda *_, **__: None)
    lab = TrainingLab(tmp_path, toy_checkpoint)
    with pretended_gpu(monkeypatch), pytest.raises(Planned) as planned:
        lab.life(lab.request(blocks_to_swap=4))
    base = base_bytes(SIZES["test"], dtype=torch.float32, blocks_to_swap=4)
    # Besides the network, which is as large as what is needed between two passes, there are only positions of tokens.
    assert planned.value.args[0] == pytest.approx(base.all, abs=base.host / 100)


def test_a_pass_that_breaks_off_is_begun_again(models):
    network = moved(made(models, KINDS["dora"]))
    network.attach()
    wanted = passes(models, network, 1)
    blocks = swapped_blocks(models.unet, 6)
    swapping = Swapping(blocks, Slow())

    def run_out(*_):
        raise torch.OutOfMemoryError("no")

    breaking = blocks[3].attn2.to_k.register_forward_hook(run_out)
    with pytest.raises(torch.OutOfMemoryError):
        passes(models, network, 1)
    breaking.remove()
    found = passes(models, network, 1)
    swapping.restore()
    network.remove()
    assert alike(found, wanted)


def test_the_largest_blocks_are_swapped_evenly_and_in_the_order_in_which_they_compute(models, toy_models):
    order = []
    handles = [
        block.register_forward_hook(lambda module, *_: order.append(module))
        for block in transformer_blocks(models.unet)
    ]
    with torch.no_grad():
        text = models.text.encode(["fox"])
        models.predict(torch.zeros(1, 4, 8, 8), torch.tensor([3]), *text, torch.full((1, 6), 64.0))
    for handle in handles:
        handle.remove()
    assert order == transformer_blocks(models.unet)
    wide = [block for block in order if block.norm1.weight.numel() == 128]
    assert swapped_blocks(models.unet, len(wide)) == wide
    assert swapped_blocks(models.unet, 2) == [wide[0], wide[len(wide) // 2]]
    assert swapped_blocks(models.unet, 1000) == order
    assert swap(toy_models, 0) is None
    # A processor's memory is the host's: there is nothing to gain.
    assert swap(toy_models, 5) is None
