"""Schedules by the name of their class: they are what their library makes, and go on from a state bit for bit."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from optimizer_samples import ADAM
from torch.optim.lr_scheduler import LRScheduler

from lora_worker.class_schedules import ClassSchedule, RunningSchedule, rehearse, schedule_class
from lora_worker.errors import WorkerError
from lora_worker.optimizer_state import restore_optimizer, save_optimizer
from lora_worker.optimizers import OptimizerSettings, build_optimizer, parse_optimizer
from lora_worker.protocol import Fields

TORCH = "torch.optim.lr_scheduler"
ADAMW = parse_optimizer(Fields({"kind": "AdamW", **ADAM}, "optimizer"))
SCHEDULES = {
    "OneCycleLR": {"max_lr": (0.1, 0.2), "total_steps": 12},
    "MultiStepLR": {"milestones": (2, 5, 5), "gamma": 0.3},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3, "cycle_momentum": False},
    "CosineAnnealingWarmRestarts": {"T_0": 3, "T_mult": 2},
    "ExponentialLR": {"gamma": 0.9},
    "LinearLR": {"start_factor": 0.1, "total_iters": 4},
}


def started(optimizer_settings=ADAMW):
    """Parameters of two groups by name, and an optimizer."""
    parameters = [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3))]
    groups = [
        {"params": [parameter], "lr": rate, "base_lr": rate, "name": "unet"}
        for parameter, rate in zip(parameters, (0.05, 0.01), strict=True)
    ]
    names = dict(zip(parameters, ("a", "b"), strict=True))
    return names, build_optimizer(optimizer_settings, groups, 0.05)


def walk(names, optimizer, advance, first, last):
    """The rates of these steps, each of which changes the parameters."""
    rates = []
    for step in range(first, last):
        rates.append([group["lr"] for group in optimizer.param_groups])
        for parameter in names:
            parameter.grad = parameter.detach() + step
        optimizer.step()
        advance(step + 1)
    return rates


def running(settings, optimizer):
    schedule = RunningSchedule(settings, optimizer)
    return schedule, lambda done: schedule.advance(done=done)


@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_are_those_of_the_class_and_a_state_goes_on_to_the_bit(name):
    settings = ClassSchedule(f"{TORCH}.{name}", SCHEDULES[name])
    peers, theirs = started()
    peer = getattr(torch.optim.lr_scheduler, name)(theirs, **SCHEDULES[name])
    wanted = walk(peers, theirs, lambda done: peer.step(), 0, 10)
    assert len({tuple(rates) for rates in wanted}) > 1

    names, optimizer = started()
    schedule, advance = running(settings, optimizer)
    found, done = [], 0
    for until in (3, 4, 10):
        found += walk(names, optimizer, advance, done, until)
        done = until
        tensors, values = save_optimizer(optimizer, names)
        told = json.loads(json.dumps([values, schedule.state()], allow_nan=False))
        held = {key: tensor.clone() for key, tensor in tensors.items()}
        weights = [parameter.detach().clone() for parameter in names]
        names, optimizer = started()
        schedule, advance = running(settings, optimizer)
        for parameter, weight in zip(names, weights, strict=True):
            parameter.data.copy_(weight)
        restore_optimizer(optimizer, names, held, told[0])
        schedule.restore(told[1])
    assert found == wanted
    assert all(torch.equal(one, other) for one, other in zip(names, peers, strict=True))


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("nowhere.at_all.Cycle", "cannot be imported"),
        (f"{TORCH}.Cycle", 'has no "Cycle"'),
        ("torch.optim.SGD", "is not a class of schedules"),
        ("torch.no_grad", "is not a class of schedules"),
        (f"{TORCH}.ReduceLROnPlateau", "wants to be told metrics at each step"),
    ],
)
def test_a_class_that_is_no_schedule_of_steps_is_refused_before_anything_is_loaded(path, says):
    with pytest.raises(WorkerError, match=says) as error:
        schedule_class(ClassSchedule(path, {}))
    assert error.value.kind == "bad-input"


class Falling(LRScheduler):
    """Rates that end below 0, and whatever else it is told to keep."""

    def __init__(self, optimizer, kept=None):
        self.kept = object() if kept == "object" else kept
        super().__init__(optimizer)

    def get_lr(self):
        return [rate - 0.004 * self.last_epoch for rate in self.base_lrs]


@pytest.mark.parametrize(
    ("path", "arguments", "says"),
    [
        (f"{TORCH}.StepLR", {"speed": 3}, "does not take these settings: .*speed"),
        (f"{TORCH}.OneCycleLR", {"max_lr": 0.1, "total_steps": 5}, "cannot go on after step 6: .*total steps is 5"),
        (f"{TORCH}.OneCycleLR", {"max_lr": (0.1,) * 3, "total_steps": 20}, "does not take these settings"),
        (f"{__name__}.Falling", {}, "gives step 4 the rate -0.002, which is none"),
        (f"{__name__}.Falling", {"kept": "object"}, 'keeps "kept" of the type object, which cannot be saved'),
    ],
)
def test_what_would_fail_on_the_way_is_found_before_the_first_step(path, arguments, says):
    _, optimizer = started()
    with pytest.raises(WorkerError, match=says):
        rehearse(ClassSchedule(path, arguments), ADAMW, optimizer, lr=0.05, steps=20)


def test_a_rehearsal_leaves_the_optimizer_alone_and_warns_of_nothing():
    _, optimizer = started(OptimizerSettings("python", "torch.optim.SGD", {"momentum": 0.9}))
    before = [dict(group) for group in optimizer.param_groups]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rehearse(
            ClassSchedule(f"{TORCH}.OneCycleLR", {"max_lr": 0.1, "total_steps": 9}), ADAMW, optimizer, lr=0.1, steps=9
        )
    assert [dict(group) for group in optimizer.param_groups] == before
    state = {"inf": float("inf"), "nested": {1: [1, (2, "x")], "y": None}}
    schedule = RunningSchedule(ClassSchedule(f"{__name__}.Falling", {"kept": state}), optimizer)
    told = json.loads(json.dumps(schedule.state(), allow_nan=False))
    again = RunningSchedule(ClassSchedule(f"{__name__}.Falling", {}), optimizer)
    again.restore(told)
    assert again._scheduler.kept == state
