"""SAVEUS against recorded trajectories of the published optimizer, and against a slow reference written here."""

from __future__ import annotations

import copy
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from lora_worker import expressions, saveus
from lora_worker.safetensors_file import read_safetensors
from lora_worker.saveus import SAVEUS

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "test" / "fixtures" / "golden"
DESCRIPTION = json.loads((GOLDEN / "saveus.json").read_text())


@pytest.fixture(scope="module")
def golden():
    return read_safetensors(GOLDEN / "saveus.safetensors")[0]


@pytest.mark.parametrize("case", DESCRIPTION["cases"])
def test_the_published_trajectories_are_reproduced(case, golden):
    count = len(DESCRIPTION["shapes"])
    parameters = [golden[f"init.{place}"].clone().requires_grad_() for place in range(count)]
    optimizer = SAVEUS(parameters, **DESCRIPTION["cases"][case])
    for step in range(DESCRIPTION["steps"]):
        for place, parameter in enumerate(parameters):
            parameter.grad = golden[f"grad.{step}.{place}"].clone()
        optimizer.step()
        if step + 1 in (1, 6):
            for place, parameter in enumerate(parameters):
                wanted = golden[f"{case}.step{step + 1}.{place}"]
                assert (parameter - wanted).abs().max() <= 1e-12, (step + 1, place)


# A second, obvious implementation: one number at a time, from the formulas at the top of saveus.py.


def reference_step(theta, gradient, memory, step, arguments):
    """New parameter values and memory (m, v). Tensors of float64; `step` counts from 1."""
    beta1, beta2 = arguments["betas"]
    rows = theta.shape[0] if theta.dim() > 1 else 1
    g = [row.tolist() for row in gradient.reshape(rows, -1)]
    g = [[x - arguments["centralization"] * mean(row) for x in row] for row in g]
    if arguments["normalization"] != 0:
        g = reference_normalized(g, theta.dim() > 1 and arguments["normalize_channels"], arguments)
    flat_g = [x for row in g for x in row]
    eta = arguments["lr"] / (1 - beta1**step)
    decay = arguments["weight_decay"]
    new_theta, new_m, new_v = [], [], []
    for x, gx, m, v in zip(theta.flatten().tolist(), flat_g, *memory, strict=True):
        m = beta1 * m + (1 - beta1) * gx
        gx = gx + arguments["amp_fac"] * m
        v = beta2 * v + (1 - beta2) * gx * gx
        if arguments["decouple_weight_decay"]:
            x = x * (1 - eta * decay)
        else:
            gx = gx + decay * x
        if arguments["clip_gradients"]:
            gx = max(-(step**0.25), min(step**0.25, gx))
        new_theta.append(x - eta * gx / ((v / (1 - beta2**step)) ** 0.5 + arguments["eps"]))
        new_m.append(m)
        new_v.append(v)
    return torch.tensor(new_theta, dtype=torch.float64).reshape(theta.shape), (new_m, new_v)


def reference_normalized(g, by_row, arguments):
    units = g if by_row else [[x for row in g for x in row]]
    if len(units[0]) < (2 if by_row else 3):
        return g
    amount = 1 if arguments["normalization_mode"] == "full" else arguments["normalization"]
    divided = []
    for unit in units:
        centre = mean(unit)
        deviation = (sum((x - centre) ** 2 for x in unit) / (len(unit) - 1)) ** 0.5 + 1e-8
        divided.append([(1 - amount) * x + amount * x / deviation for x in unit])
    return divided


def mean(numbers):
    return sum(numbers) / len(numbers)


some_arguments = st.fixed_dictionaries(
    {
        "lr": st.sampled_from([1e-3, 0.1]),
        "betas": st.sampled_from([(0.9, 0.999), (0.0, 0.5)]),
        "eps": st.sampled_from([1e-8, 1e-3]),
        "weight_decay": st.sampled_from([0, 0.1]),
        "decouple_weight_decay": st.booleans(),
        "centralization": st.sampled_from([0, 0.5, 1]),
        "normalization": st.sampled_from([0, 0.3, 1]),
        "normalization_mode": st.sampled_from(["full", "lerp"]),
        "normalize_channels": st.booleans(),
        "amp_fac": st.sampled_from([0, 2.0]),
        "clip_gradients": st.booleans(),
    }
)
some_shapes = st.lists(
    st.sampled_from([(1,), (2,), (5,), (3, 4), (4, 1), (1, 4), (1, 1), (2, 3, 3, 3), (3, 2, 1, 1), (3, 1, 1, 1)]),
    min_size=1,
    max_size=4,
)


@settings(deadline=None, max_examples=60)
@given(some_arguments, some_shapes, st.integers(0, 10_000), st.integers(1, 4))
def test_it_computes_the_written_formulas(arguments, shapes, seed, steps):
    generator = torch.Generator().manual_seed(seed)

    def normal(shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    parameters = [normal(shape).requires_grad_() for shape in shapes]
    wanted = [parameter.detach().clone() for parameter in parameters]
    memory = [([0.0] * parameter.numel(), [0.0] * parameter.numel()) for parameter in parameters]
    optimizer = SAVEUS(parameters, **arguments)
    for step in range(1, steps + 1):
        for place, parameter in enumerate(parameters):
            parameter.grad = normal(parameter.shape)
            wanted[place], memory[place] = reference_step(wanted[place], parameter.grad, memory[place], step, arguments)
        optimizer.step()
    for parameter, value in zip(parameters, wanted, strict=True):
        torch.testing.assert_close(parameter.detach(), value, rtol=1e-8, atol=1e-9)


def test_gradients_are_left_as_they_were():
    parameters = [torch.ones(4, 3).requires_grad_(), torch.ones(5).requires_grad_()]
    for parameter in parameters:
        parameter.grad = torch.arange(float(parameter.numel())).reshape(parameter.shape)
    before = [parameter.grad.clone() for parameter in parameters]
    held = [parameter.grad for parameter in parameters]
    SAVEUS(parameters, weight_decay=0.1, clip_gradients=True).step()
    for parameter, gradient, old in zip(parameters, held, before, strict=True):
        assert parameter.grad is gradient
        assert torch.equal(gradient, old)


def test_a_row_of_one_element_moves_and_stays_finite():
    up = torch.zeros(6, 1).requires_grad_()
    up.grad = torch.linspace(-1, 1, 6).reshape(6, 1)
    SAVEUS([up]).step()
    assert up.isfinite().all()
    assert (up != 0).all()


def test_lerp_lies_between_no_normalization_and_full():
    def moments(**arguments):
        parameter = torch.zeros(2, 3, dtype=torch.float64).requires_grad_()
        parameter.grad = torch.tensor([[1.0, 2, 4], [10, 0, -10]], dtype=torch.float64)
        optimizer = SAVEUS([parameter], **arguments)
        optimizer.step()
        return optimizer.state[parameter]["ema"]

    none, full = moments(normalization=0), moments(normalization=1)
    torch.testing.assert_close(moments(normalization=0.25, normalization_mode="lerp"), 0.75 * none + 0.25 * full)
    torch.testing.assert_close(moments(normalization=0.25), full)


def test_parameters_without_gradient_wait_and_keep_their_own_step_number():
    often, rarely = torch.zeros(3).requires_grad_(), torch.zeros(3).requires_grad_()
    optimizer = SAVEUS([often, rarely])
    often.grad = torch.tensor([1.0, 2, 4])
    optimizer.step()
    rarely.grad = torch.tensor([1.0, 2, 4])
    first = often.detach().clone()
    optimizer.step()
    assert torch.equal(rarely, first)
    assert [optimizer.state[parameter]["step"] for parameter in (often, rarely)] == [2, 1]


def test_how_parameters_are_batched_changes_no_bit(monkeypatch):
    def trained():
        generator = torch.Generator().manual_seed(4)
        parameters = [torch.randn(4, 3, generator=generator).requires_grad_() for _ in range(7)]
        optimizer = SAVEUS(parameters, lr=0.1)
        for _ in range(3):
            for parameter in parameters:
                parameter.grad = torch.randn(4, 3, generator=generator)
            optimizer.step()
        return parameters

    together = trained()
    for largest in (1, 12, 30):
        monkeypatch.setattr(saveus, "_LARGEST_BATCH", largest)
        assert all(torch.equal(one, other) for one, other in zip(trained(), together, strict=True))


def test_it_keeps_two_moments_of_a_parameter_and_a_count():
    parameters = [torch.zeros(shape).requires_grad_() for shape in ((4, 3), (5,), (2, 3, 3, 3))]
    optimizer = SAVEUS(parameters)
    for _ in range(2):
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    for parameter in parameters:
        state = optimizer.state[parameter]
        assert state.keys() == {"step", "ema", "ema_squared"}
        assert state["step"] == 2
        assert all(state[name].shape == parameter.shape for name in ("ema", "ema_squared"))


@pytest.mark.parametrize("decoupled", [False, True])
def test_a_step_never_waits_for_the_device(decoupled):
    """Fake tensors have shapes and no values: whatever asks for one, as `.item()` does, raises."""
    with FakeTensorMode():
        parameters = [torch.empty(shape).requires_grad_() for shape in ((4, 3), (4, 3), (5,), (4, 1), (2, 3, 3, 3))]
        optimizer = SAVEUS(parameters, weight_decay=0.1, decouple_weight_decay=decoupled, clip_gradients=True)
        for _ in range(2):
            for parameter in parameters:
                parameter.grad = torch.empty_like(parameter)
            optimizer.step()
        with pytest.raises(DataDependentOutputException):
            parameters[0].sum().item()


def test_groups_keep_their_own_rates():
    slow, fast = torch.zeros(3).requires_grad_(), torch.zeros(3).requires_grad_()
    slow.grad = fast.grad = torch.tensor([1.0, 2, 4])
    SAVEUS([{"params": [slow], "lr": 1e-4}, {"params": [fast], "lr": 3e-4}]).step()
    torch.testing.assert_close(3 * slow, fast)


def test_a_closure_is_evaluated_with_gradients_and_its_loss_returned():
    parameter = torch.ones(3).requires_grad_()
    optimizer = SAVEUS([parameter])

    def closure():
        optimizer.zero_grad()
        loss = (parameter * torch.tensor([1.0, 2, 3])).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 6


@pytest.mark.parametrize(
    "clip_lambda",
    [None, "step ** 0.25", {"op": "**", "left": "step", "right": 0.25}, 0.5, expressions.check, "math:sqrt"],
)
def test_a_saved_state_goes_on_exactly_where_it_stopped(clip_lambda):
    clips = clip_lambda is not expressions.check  # a function, though of no use as a threshold
    generator = torch.Generator().manual_seed(0)
    gradients = [torch.randn(4, 3, generator=generator) for _ in range(4)]

    def run(parameter, optimizer, some):
        for gradient in some:
            parameter.grad = gradient.clone()
            optimizer.step()

    def fresh():
        parameter = torch.ones(4, 3).requires_grad_()
        return parameter, SAVEUS([parameter], clip_lambda=clip_lambda, clip_gradients=clips)

    whole, whole_optimizer = fresh()
    run(whole, whole_optimizer, gradients)
    first, first_optimizer = fresh()
    run(first, first_optimizer, gradients[:2])
    file = io.BytesIO()
    torch.save(first_optimizer.state_dict(), file)
    file.seek(0)
    second, second_optimizer = fresh()
    second.data.copy_(first.data)
    second_optimizer.load_state_dict(torch.load(file, weights_only=True))
    run(second, second_optimizer, gradients[2:])
    assert torch.equal(second, whole)


def test_a_copy_is_independent():
    parameter = torch.ones(3).requires_grad_()
    optimizer = SAVEUS([parameter])
    parameter.grad = torch.tensor([1.0, 2, 4])
    optimizer.step()
    twin = copy.deepcopy(optimizer)
    optimizer.step()
    assert next(iter(twin.state.values()))["step"] == 1


def test_a_lambda_is_refused_because_it_could_not_be_saved():
    with pytest.raises(ValueError, match='use text such as "step \\*\\* 0.25"'):
        SAVEUS([torch.zeros(1)], clip_lambda=lambda step: step**0.25)


def test_a_state_cannot_make_it_import_a_function_of_its_choice():
    theirs = SAVEUS([torch.zeros(1)], clip_lambda="math:sqrt").state_dict()
    with pytest.raises(ValueError, match="math:sqrt"):
        SAVEUS([torch.zeros(1)]).load_state_dict(theirs)
    theirs["param_groups"][0]["clip_lambda"] = "os:abort"
    with pytest.raises(ValueError, match="os:abort"):
        SAVEUS([torch.zeros(1)]).load_state_dict(theirs)


@pytest.mark.parametrize(
    "arguments",
    [
        {"lr": -1},
        {"betas": (0.9, 1)},
        {"betas": (0.9,)},
        {"eps": -1},
        {"weight_decay": float("nan")},
        {"normalization_mode": "half"},
        {"clip_lambda": "__import__('os')"},
        {"clip_lambda": "math:pi"},
    ],
)
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError):
        SAVEUS([torch.zeros(1)], **arguments)


def test_sparse_gradients_are_refused():
    parameter = torch.zeros(3, 2).requires_grad_()
    parameter.grad = torch.eye(3, 2).to_sparse()
    with pytest.raises(RuntimeError, match="sparse"):
        SAVEUS([parameter]).step()


def test_it_works_as_sd_scripts_constructs_it():
    import ast
    import importlib

    written = ["betas=0.9,0.999", "amp_fac=2.0", "clip_gradients=True", "clip_lambda='step ** 0.25'"]
    literals = {key: ast.literal_eval(value) for key, value in (argument.split("=", 1) for argument in written)}
    cls = getattr(importlib.import_module("lora_worker.saveus"), "SAVEUS")  # noqa: B009
    weight = torch.zeros(2, 2).requires_grad_()
    optimizer = cls([{"params": [weight], "lr": 1e-4}], lr=3e-4, **literals)
    weight.grad = torch.eye(2)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    optimizer.step()
    assert weight.isfinite().all()


def test_it_imports_nothing_but_torch():
    program = (
        "import sys, torch; before = set(sys.modules); import lora_worker.saveus; "
        "print([name for name in set(sys.modules) - before if name.split('.')[0] not in sys.stdlib_module_names])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT / "python"
    )
    assert set(json.loads(found.stdout.replace("'", '"'))) == {
        "lora_worker",
        "lora_worker.expressions",
        "lora_worker.saveus",
    }
