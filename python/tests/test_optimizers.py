"""Every optimizer that a training can name: it is what its library makes, and goes on from a state bit for bit."""

from __future__ import annotations

import json

import pytest
import torch
from optimizer_samples import ADAM, OPTIMIZERS
from torch import nn

from lora_worker.errors import WorkerError
from lora_worker.optimizer_state import restore_optimizer, save_optimizer
from lora_worker.optimizers import build_optimizer, optimizer_class, parse_optimizer
from lora_worker.protocol import Fields

SHAPES = ((4, 3), (3, 4), (5,), (2, 3, 3, 3), (4, 1))


def parsed(fields):
    return parse_optimizer(Fields(fields, "optimizer"))


def start(fields):
    """Parameters in two groups, their names, and the optimizer."""
    generator = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    groups = [{"params": parameters[:2], "lr": 0.01, "name": "a"}, {"params": parameters[2:], "lr": 0.01, "name": "b"}]
    return {p: f"p{place}" for place, p in enumerate(parameters)}, build_optimizer(parsed(fields), groups, 0.01)


def steps(names, optimizer, first, last):
    """Towards zero, with gradients that depend on the parameters and on the step."""
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        for parameter in names:
            parameter.grad = parameter.detach() + 0.1 * torch.randn(parameter.shape, generator=generator)
        optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_k_steps_a_state_and_the_rest_are_all_steps_also_twice(name):
    whole, optimizer = start(OPTIMIZERS[name])
    steps(whole, optimizer, 0, 7)

    names, optimizer = start(OPTIMIZERS[name])
    done = 0
    for until in (2, 3, 7):
        steps(names, optimizer, done, until)
        done = until
        tensors, values = save_optimizer(optimizer, names)
        told = json.loads(json.dumps(values, allow_nan=False))
        held = {key: tensor.clone() for key, tensor in tensors.items()}
        weights = [parameter.detach().clone() for parameter in names]
        names, optimizer = start(OPTIMIZERS[name])
        for parameter, weight in zip(names, weights, strict=True):
            parameter.data.copy_(weight)
        restore_optimizer(optimizer, names, held, told)
    assert all(torch.equal(one, other) for one, other in zip(whole, names, strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_come_nearer_to_where_the_gradient_points(name):
    names, optimizer = start(OPTIMIZERS[name])
    before = sum(parameter.square().sum().item() for parameter in names)
    steps(names, optimizer, 0, 30)
    assert sum(parameter.square().sum().item() for parameter in names) < before


def test_settings_reach_the_library_under_its_names():
    _, optimizer = start({**OPTIMIZERS["Prodigy"], "growth_rate": 1.02, "beta3": 0.5, "use_bias_correction": True})
    group = optimizer.param_groups[0]
    assert (group["growth_rate"], group["beta3"], group["weight_decouple"], group["bias_correction"]) == (
        1.02,
        0.5,
        True,
        True,
    )
    _, optimizer = start(OPTIMIZERS["CAME"])
    assert (optimizer.eps1, optimizer.eps2, optimizer.param_groups[0]["betas"]) == (1e-30, 1e-16, (0.9, 0.999, 0.9999))
    _, optimizer = start(OPTIMIZERS["python"])
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.99)
    assert parsed(OPTIMIZERS["python"]).written() == "torch.optim.Adamax(betas=(0.8, 0.99),foreach=True)"


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name.startswith("Adafactor")])
def test_adafactor_has_the_rates_that_are_written_and_none_of_its_own(name):
    names, optimizer = start(OPTIMIZERS[name])
    assert not any(group["relative_step"] or group["warmup_init"] for group in optimizer.param_groups)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = [parameter.detach().clone() for parameter in names]
    steps(names, optimizer, 0, 3)
    assert all(torch.equal(parameter, kept) for parameter, kept in zip(names, before, strict=True))


def test_adamw8bit_is_the_one_of_bitsandbytes_or_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    with pytest.raises(WorkerError, match="needs the Python package bitsandbytes"):
        optimizer_class(parsed({"kind": "AdamW8bit", **ADAM}))


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("nowhere.at_all.Best", "cannot be imported"),
        ("torch.optim.Best", 'has no "Best"'),
        ("torch.nn.Linear", "is not a class of optimizers"),
        ("torch.no_grad", "is not a class of optimizers"),
    ],
)
def test_a_class_that_is_no_optimizer_is_refused_before_anything_is_loaded(path, says):
    with pytest.raises(WorkerError, match=says):
        optimizer_class(parsed({"kind": "python", "class": path}))


def test_arguments_that_a_class_does_not_take_are_told():
    with pytest.raises(WorkerError, match="torch.optim.SGD does not take these settings: .*speed"):
        start({"kind": "python", "class": "torch.optim.SGD", "args": {"speed": 3}})


class Secretive(torch.optim.SGD):
    """Keeps what nobody can write down."""

    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["secret"] = object()


def test_a_memory_that_cannot_be_saved_is_refused_by_name():
    parameter = nn.Parameter(torch.ones(2))
    optimizer = Secretive([parameter], lr=0.1)
    parameter.grad = torch.ones(2)
    optimizer.step()
    with pytest.raises(WorkerError, match='Secretive keeps "p/secret" of the type object'):
        save_optimizer(optimizer, {parameter: "p"})
