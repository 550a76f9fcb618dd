"""Branches of a network: they add exactly s·up(down(x)) to exactly their layers, and leave nothing behind."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from model_outputs import outputs, same

from lora_worker import adapters
from lora_worker.lora_file import write_lora
from lora_worker.network import create
from lora_worker.network_settings import NetworkSettings, Ranks
from lora_worker.network_targets import trainable

SETTINGS = NetworkSettings(Ranks(dim=2, alpha=1, conv_dim=4, conv_alpha=3))


def random_network(models, targets=None, seed=0):
    """With up filled as well, so that it changes something."""
    network = create(models, targets or trainable(models.targets()), SETTINGS, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for branch in network.branches.values():
        branch.up.data.normal_(std=0.05, generator=generator)
    return network


def test_every_kind_of_layer_computes_what_a_merged_weight_would(toy_models):
    by_kind = {(target.kind, target.stride): target for target in toy_models.targets()}
    assert {kind for kind, _ in by_kind} == {"linear", "conv1x1", "conv3x3"}
    for target in by_kind.values():
        layer = toy_models.module_of(target)
        network = random_network(toy_models, [target])
        branch = network.branches[target.name]
        rank = branch.down.shape[0]
        delta = (branch.up.flatten(1) @ branch.down.flatten(1)).reshape(layer.weight.shape)
        x = torch.randn(2, target.in_features, *(() if target.kind == "linear" else (8, 8)))
        with torch.no_grad():
            wanted = layer(x) + layer_without_bias(layer, x, delta * (branch.alpha / rank))
            network.attach()
            found = layer(x)
            network.remove()
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def layer_without_bias(layer, x, weight):
    if isinstance(layer, torch.nn.Linear):
        return torch.nn.functional.linear(x, weight)
    return torch.nn.functional.conv2d(x, weight, stride=layer.stride, padding=layer.padding)


def test_a_new_network_changes_nothing(toy_models):
    before = outputs(toy_models)
    network = create(toy_models, toy_models.targets(), SETTINGS, seed=0)
    network.attach()
    after = outputs(toy_models)
    network.remove()
    assert same(before, after)


def test_every_trainable_module_gets_a_gradient_and_the_others_none(toy_models):
    network = random_network(toy_models, toy_models.targets())
    network.attach()
    context, pooled = toy_models.text.encode(["fox"])
    sizes = torch.tensor([[64.0, 64, 0, 0, 64, 64]])
    toy_models.predict(torch.ones(1, 4, 8, 8), torch.tensor([5]), context, pooled, sizes).square().sum().backward()
    network.remove()
    reached = {name for name, branch in network.branches.items() if branch.up.grad is not None}
    assert reached == {target.name for target in trainable(toy_models.targets())}
    assert all(network.branches[name].down.grad.abs().sum() > 0 for name in reached)


def test_ranks_and_shapes_follow_the_kind_of_layer(toy_models):
    network = create(toy_models, toy_models.targets(), SETTINGS, seed=0)
    seen = Counter()
    for branch in network.branches.values():
        target = branch.target
        seen[target.kind] += 1
        rank, alpha = (4, 3) if target.kind == "conv3x3" else (2, 1)
        inner = {"linear": (), "conv1x1": (1, 1), "conv3x3": (3, 3)}[target.kind]
        assert branch.down.shape == (rank, target.in_features, *inner)
        assert branch.up.shape == (target.out_features, rank, *([1, 1] if inner else []))
        assert branch.scale == alpha / rank
        assert branch.down.dtype == branch.up.dtype == torch.float32
    assert min(seen[kind] for kind in ("linear", "conv1x1", "conv3x3")) > 0


def test_down_is_kaiming_uniform_and_does_not_depend_on_other_modules(toy_models):
    targets = list(toy_models.targets())
    whole = create(toy_models, targets, SETTINGS, seed=4)
    backwards = create(toy_models, targets[::-1][:20], SETTINGS, seed=4)
    for name, branch in backwards.branches.items():
        assert torch.equal(branch.down, whole.branches[name].down)
        bound = branch.down[0].numel() ** -0.5
        assert branch.down.abs().max() <= bound
        assert branch.up.abs().max() == 0
    every_down = torch.cat(
        [(branch.down * branch.down[0].numel() ** 0.5).flatten() for branch in whole.branches.values()]
    )
    assert every_down.std().item() == pytest.approx(3**-0.5, rel=0.02)
    assert not torch.equal(
        create(toy_models, targets[:1], SETTINGS, seed=5).branches[targets[0].name].down,
        whole.branches[targets[0].name].down,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_branch_computes_in_the_dtype_of_what_flows_and_trains_in_f32(toy_models, dtype):
    target = toy_models.targets()[0]
    branch = random_network(toy_models, [target]).branches[target.name]
    y = branch(toy_models.module_of(target), torch.ones(3, target.in_features, dtype=dtype), torch.zeros(()), None)
    assert y.dtype == dtype
    y.sum().backward()
    assert branch.up.grad.dtype == torch.float32


def test_a_saved_lora_renders_like_the_network_rounded_to_the_files_dtype(toy_models, tmp_path):
    network = random_network(toy_models)
    write_lora(tmp_path / "lora.safetensors", network, {}, dtype=torch.float16)
    bare = outputs(toy_models)
    network.attach()
    exact = outputs(toy_models)
    with network.rounded_to(torch.float16):
        rounded = outputs(toy_models)
    assert same(outputs(toy_models), exact)
    network.remove()
    with adapters.applied(toy_models, tmp_path / "lora.safetensors"):
        loaded = outputs(toy_models)
    assert same(loaded, rounded)
    assert not same(rounded, exact)
    assert not same(loaded, bare)
    assert same(outputs(toy_models), bare)
