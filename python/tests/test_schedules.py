"""Learning rates against the published numbers of the guide, and against the schedulers that sd-scripts calls."""

from __future__ import annotations

import pytest
import torch
from diffusers.optimization import get_piecewise_constant_schedule
from optimizer_samples import OPTIMIZERS
from transformers import optimization

from lora_worker.optimizers import build_optimizer, parse_optimizer
from lora_worker.protocol import Fields, ProtocolError
from lora_worker.schedules import (
    Constant,
    Cosine,
    CosineWithMinLr,
    Polynomial,
    RelativeStep,
    WarmupStableDecay,
    parse_schedule,
    rate_factor,
    warmup_steps,
)

RATE = 3e-4


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 3e-4),
        (1, 2.999349e-4),
        (2, 2.997398e-4),
        (10, 2.935411e-4),
        (20, 2.747204e-4),
        (40, 2.074025e-4),
        (60, 1.207365e-4),
        (79, 0.471034e-4),
        (80, 0.439340e-4),
    ],
)
def test_the_guides_cosine_has_the_published_rates(step, rate):
    assert RATE * rate_factor(Cosine(0.375), step, 80, RATE) == pytest.approx(rate, rel=2e-6)


def test_half_a_wave_ends_at_zero_and_more_never_goes_below():
    assert rate_factor(Cosine(0.5), 80, 80, RATE) == pytest.approx(0, abs=1e-12)
    assert all(rate_factor(Cosine(3), step, 80, RATE) >= 0 for step in range(81))


@pytest.mark.parametrize(
    "waves",
    [
        lambda cycles: CosineWithMinLr(0.1, cycles, 0),
        lambda cycles: WarmupStableDecay(80, "cosine", "linear", 0.1, cycles, 0),
    ],
)
def test_cycles_are_whole_waves_also_where_there_is_a_lowest_rate(waves):
    assert rate_factor(waves(0.5), 80, 80, RATE) == pytest.approx(0.1, rel=1e-9)
    assert rate_factor(waves(1), 40, 80, RATE) == pytest.approx(0.1, rel=1e-9)
    assert rate_factor(waves(1), 79, 80, RATE) > 0.99


def test_a_constant_schedule_keeps_the_rate():
    assert [rate_factor(Constant(), step, 10, RATE) for step in range(11)] == [1.0] * 11


def decay(shape, ratio, steps):
    return {"num_decay_steps": steps, "decay_type": shape, "min_lr_ratio": ratio, "num_cycles": 0.5}


# What we are asked for; and the function that sd-scripts calls for it, with its arguments besides the warm-up.
PEERS = [
    ({"kind": "constant_with_warmup"}, "get_constant_schedule_with_warmup", {}),
    ({"kind": "linear"}, "get_linear_schedule_with_warmup", {"num_training_steps": 50}),
    ({"kind": "cosine", "num_cycles": 0.5}, "get_cosine_schedule_with_warmup", {"num_training_steps": 50}),
    (
        {"kind": "cosine", "num_cycles": 0.375},
        "get_cosine_schedule_with_warmup",
        {"num_training_steps": 50, "num_cycles": 0.375},
    ),
    *(
        (
            {"kind": "cosine_with_restarts", "num_cycles": restarts},
            "get_cosine_with_hard_restarts_schedule_with_warmup",
            {"num_training_steps": 50, "num_cycles": restarts},
        )
        for restarts in (1, 3)
    ),
    *(
        (
            {"kind": "polynomial", "power": power, "lr_end": end},
            "get_polynomial_decay_schedule_with_warmup",
            {"num_training_steps": 50, "power": power, "lr_end": end},
        )
        for power, end in ((1, 1e-7), (2.5, 1e-5), (0.5, 0))
    ),
    ({"kind": "inverse_sqrt"}, "get_inverse_sqrt_schedule", {}),
    ({"kind": "inverse_sqrt", "timescale": 20}, "get_inverse_sqrt_schedule", {"timescale": 20}),
    (
        # sd-scripts halves lr_scheduler_num_cycles, whose default is 1.
        {"kind": "cosine_with_min_lr", "min_lr_ratio": 0.2, "num_cycles": 0.5},
        "get_cosine_with_min_lr_schedule_with_warmup",
        {"num_training_steps": 50, "num_cycles": 1 / 2, "min_lr_rate": 0.2},
    ),
    *(
        (
            {
                "kind": "warmup_stable_decay",
                "decay": steps,
                "decay_type": shape,
                "warmup_type": rise,
                "min_lr_ratio": ratio,
                "num_cycles": 0.5,
            },
            "get_wsd_schedule",
            {**decay(shape, ratio, steps), "warmup_type": rise, "num_training_steps": 50},
        )
        for shape, rise, ratio, steps in (
            ("cosine", "linear", 0.0, 10),
            ("linear", "cosine", 0.1, 15),
            ("1-sqrt", "1-sqrt", 0.3, 1),
            ("cosine", "linear", 0.1, 0),
        )
    ),
]


@pytest.mark.parametrize("warmup", [0, 1, 7])
@pytest.mark.parametrize(("asked", "function", "arguments"), PEERS)
def test_every_scheduler_has_the_rates_of_the_function_that_sd_scripts_calls(asked, function, arguments, warmup):
    schedule = parse_schedule(Fields({**asked, "warmup": warmup}, "lr_scheduler"))
    peer = rates_of(lambda optimizer: getattr(optimization, function)(optimizer, num_warmup_steps=warmup, **arguments))
    assert [RATE * rate_factor(schedule, step, 50, RATE) for step in range(51)] == pytest.approx(peer, rel=1e-12)


def test_pieces_have_the_rates_that_diffusers_reads_from_them():
    rules = "1:10,0.1:20,0.01:30,0.005"
    schedule = parse_schedule(Fields({"kind": "piecewise_constant", "step_rules": rules}, "lr_scheduler"))
    peer = rates_of(lambda optimizer: get_piecewise_constant_schedule(optimizer, rules))
    assert [RATE * rate_factor(schedule, step, 50, RATE) for step in range(51)] == pytest.approx(peer, rel=1e-12)


def rates_of(scheduler_for):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=RATE)
    scheduler = scheduler_for(optimizer)
    rates = []
    for _ in range(51):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(("written", "steps"), [(0, 0), (5, 5), (0.1, 8), (0.99, 79), (0.0124, 0), (1, 1)])
def test_a_warm_up_is_a_count_or_below_1_a_share_cut_to_whole_steps(written, steps):
    schedule = parse_schedule(Fields({"kind": "linear", "warmup": written}, "lr_scheduler"))
    assert warmup_steps(schedule, 80) == steps


def test_a_polynomial_ends_at_one_rate_whatever_it_began_with():
    ends = [rate * rate_factor(Polynomial(1, 1e-6, 0), 80, 80, rate) for rate in (1e-4, 3e-4)]
    assert ends == pytest.approx([1e-6, 1e-6], rel=1e-12)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "adafactor"},
        {"kind": "linear", "warmup": 1.5},
        {"kind": "linear", "warmup": -1},
        {"kind": "piecewise_constant", "step_rules": "1:10"},
        {"kind": "piecewise_constant", "step_rules": "1:ten,0.1"},
    ],
)
def test_what_is_no_schedule_is_refused(fields):
    with pytest.raises(ProtocolError):
        parse_schedule(Fields(fields, "lr_scheduler"))


@pytest.mark.parametrize("scales", [False, True])
@pytest.mark.parametrize("warms_up", [False, True])
def test_the_schedule_adafactor_has_the_rates_that_adafactor_finds_itself(warms_up, scales):
    """What is learned, to the bit, and the rates that transformers' AdafactorSchedule reads out of it."""
    theirs, ours = (torch.nn.Parameter(torch.linspace(-1, 2, 12).reshape(3, 4)) for _ in range(2))
    peer = optimization.Adafactor([theirs], lr=None, scale_parameter=scales, relative_step=True, warmup_init=warms_up)
    settings = parse_optimizer(Fields({**OPTIMIZERS["Adafactor"], "scale_parameter": scales}, "optimizer"))
    optimizer = build_optimizer(settings, [{"params": [ours], "lr": 1.0}], 1.0)
    theirs.grad = torch.ones_like(theirs)
    schedule = parse_schedule(Fields({"kind": "adafactor", "warmup_init": warms_up}, "s"))
    assert schedule == RelativeStep(warms_up)
    rates = []
    for step in range(130 if warms_up else 12_000 if not scales else 5):
        rate = rate_factor(schedule, step, 10, 1.0)
        rates.append(rate)
        if step > 120:
            continue
        optimizer.param_groups[0]["lr"] = rate
        for parameter in (theirs, ours):
            generator = torch.Generator().manual_seed(step)
            parameter.grad = parameter.detach() + torch.randn(parameter.shape, generator=generator)
        peer.step()
        optimizer.step()
        assert torch.equal(theirs, ours), step
        if not scales:
            told = optimization.AdafactorSchedule(peer).get_lr()
            assert told == [rate], step
    assert rates[0] == (1e-6 if warms_up else 1e-2)
    if len(rates) > 10_001:
        assert rates[9_998] == 1e-2 > rates[10_000] == 1 / 10_001**0.5


def test_base_rates_are_factors_of_what_adafactor_finds():
    factors = [rate_factor(RelativeStep(True), step, 10, base) for step in (0, 9) for base in (1.0, 0.5)]
    assert factors == [1e-6, 1e-6, 1e-6 * 10, 1e-6 * 10]
