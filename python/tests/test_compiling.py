"""Compiled blocks: few compilations over many shapes, the same numbers, and never a reason to stop."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from network_samples import KINDS
from support import RecordingJob
from test_kinds import made, moved
from torch.autograd.graph import saved_tensors_hooks
from training_lab import TrainingLab, share_models

from lora_worker import training
from lora_worker.checkpointing import set_checkpointing
from lora_worker.compiling import Compiling
from lora_worker.live_bytes import storage_key
from lora_worker.safetensors_file import read_safetensors
from lora_worker.swapping import AtOnce, Swapping
from lora_worker.train_request import parse_train
from lora_worker.training import Trainer
from lora_worker.transformer_blocks import swapped_blocks, transformer_blocks


class Counting:
    """A backend without a compiler: what it is given is computed as it stands."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph.forward


@pytest.fixture
def network(toy_models):
    torch._dynamo.reset()
    network = moved(made(toy_models, KINDS["locon"]))
    network.attach()
    yield network
    network.remove()
    set_checkpointing(toy_models, False)
    assert not any("forward" in vars(block) for block in transformer_blocks(toy_models.unet))


def step(models, network, height, width, images=2):
    """Output and gradients of one pass forward and back."""
    generator = torch.Generator().manual_seed(height * width)
    inputs = [torch.randn(shape, generator=generator) for shape in ((images, 4, height, width), (images, 77, 96))]
    pooled, sizes = torch.zeros(images, 64), torch.full((images, 6), 64.0)
    output = models.predict(inputs[0], torch.full((images,), 500), inputs[1], pooled, sizes)
    output.square().mean().backward()
    unet = {name: p for name, p in network.named_parameters() if name.startswith("lora_unet")}
    gradients = {name: parameter.grad.clone() for name, parameter in unet.items()}
    for parameter in unet.values():
        parameter.grad = None
    return output.detach(), gradients


def same(left, right):
    (output, gradients), (other_output, others) = left, right
    assert torch.allclose(output, other_output, rtol=1e-4, atol=1e-6)
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, others[name], rtol=1e-3, atol=1e-5 * gradient.abs().max().item()), name


def test_blocks_are_compiled_once_for_each_width_whatever_the_bucket(toy_models, network):
    shapes = [(8, 8), (8, 12), (12, 8), (8, 16)]
    wanted = {shape: step(toy_models, network, *shape) for shape in shapes}
    backend = Counting()
    compiling = Compiling(toy_models, pytest.fail, backend)
    graphs = []
    for shape in shapes:
        same(step(toy_models, network, *shape), wanted[shape])
        graphs.append(backend.graphs)
    # 11 blocks of two widths.
    assert graphs == [2, 2, 2, 2]
    step(toy_models, network, 8, 8, images=3)
    step(toy_models, network, 8, 12, images=4)
    # The number of images is a variable from when it changes.
    assert backend.graphs == 4
    with torch.no_grad():
        toy_models.predict(
            torch.zeros(2, 4, 6, 6), *(torch.zeros(2), torch.zeros(2, 77, 96), torch.zeros(2, 64)), torch.ones(2, 6)
        )
    assert backend.graphs == 4
    compiling.stop()


def test_compiled_blocks_keep_less_than_is_counted_of_them(toy_models, network):
    """A memory plan counts what blocks keep that are not compiled. Which of it compiled ones keep, torch chooses before
    a compiler has its turn."""
    ignored = {storage_key(tensor) for tensor in (*toy_models.unet.parameters(), *toy_models.unet.buffers())}
    ignored |= {storage_key(parameter) for _, parameter in network.named_parameters()}

    def kept():
        saved = {}

        def save(tensor):
            if storage_key(tensor) not in ignored:
                saved[storage_key(tensor)] = tensor
            return tensor

        with saved_tensors_hooks(save, lambda tensor: tensor):
            step(toy_models, network, 16, 16)
        return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())

    plain = kept()
    compiling = Compiling(toy_models, pytest.fail, "aot_eager_decomp_partition")
    try:
        # The first pass compiles.
        kept()
        assert 0.8 * plain < kept() < plain
    finally:
        compiling.stop()


def test_compiled_blocks_can_be_checkpointed_and_swapped(toy_models, network):
    wanted = step(toy_models, network, 8, 12)
    set_checkpointing(toy_models, True)
    backend = Counting()
    compiling = Compiling(toy_models, pytest.fail, backend)
    swapping = Swapping(swapped_blocks(toy_models.unet, 4), AtOnce())
    for _ in range(2):
        same(step(toy_models, network, 8, 12), wanted)
    assert backend.graphs > 0
    swapping.restore()
    compiling.stop()


def test_a_compiler_that_fails_is_told_of_once_and_nothing_is_lost(toy_models, network):
    wanted = step(toy_models, network, 8, 8)

    def broken(graph, inputs):
        raise RuntimeError("there is no C++ compiler\nand more")

    warnings = []
    compiling = Compiling(toy_models, warnings.append, broken)
    for _ in range(2):
        same(step(toy_models, network, 8, 8), wanted)
    assert not compiling.is_on
    assert len(warnings) == 1
    assert "no C++ compiler" in warnings[0]


def test_a_training_goes_on_where_compiled_code_fails_on_its_way_and_its_lora_is_the_same(
    toy_models, tmp_path, toy_checkpoint, monkeypatch
):
    torch._dynamo.reset()
    share_models(monkeypatch, toy_models)
    lab = TrainingLab(tmp_path, toy_checkpoint)
    plan = {"batch_size": 3, "steps": 2, "text_encoder_lr": 0, "state_every": {"steps": 1}}
    wanted = read_safetensors(lab.life(lab.request("one", **plan))["lora"])[0]
    calls = 0

    def failing_later(graph, inputs):
        def run(*inputs):
            nonlocal calls
            calls += 1
            if calls == 20:
                raise RuntimeError("a kernel is missing")
            return graph.forward(*inputs)

        return run

    monkeypatch.setattr(training, "Compiling", partial(Compiling, backend=failing_later))
    job = RecordingJob()
    found = read_safetensors(lab.life(lab.request("two", **plan, compile=True), job)["lora"])[0]
    assert calls == 20
    assert [warning for warning in job.warnings if "a kernel is missing" in warning] == job.warnings != []
    # What it was stopped in is gone on from without compiling: the training is the same one.
    compiled = lab.request(compile=True, blocks_to_swap=5)
    assert parse_train(compiled).identity("") == parse_train(lab.request()).identity("")
    assert all(torch.allclose(found[name].float(), value.float(), atol=1e-4) for name, value in wanted.items())


def test_a_trainer_compiles_what_has_no_dropouts_and_leaves_the_models_as_they_were(
    toy_models, network, tmp_path, toy_checkpoint
):
    lab = TrainingLab(tmp_path, toy_checkpoint)

    def compiles(**changes):
        settings = parse_train(lab.request(**changes)).settings
        trainer = Trainer(toy_models, network, settings, pytest.fail)
        try:
            return "forward" in vars(transformer_blocks(toy_models.unet)[0])
        finally:
            trainer.close()

    told = []
    swapping = parse_train(lab.request(blocks_to_swap=3)).settings
    Trainer(toy_models, network, swapping, told.append).close()
    assert ["blocks_to_swap does nothing here" in message for message in told] == [True]
    dropping = {**lab.request()["settings"]["network"], "rank_dropout": 0.1}
    assert [compiles(), compiles(compile=True), compiles(compile=True, network=dropping)] == [False, True, False]
