"""Changes of layers that are kept to a length, against a slow reference that makes every ΔW."""

from __future__ import annotations

import pytest
import torch
from network_samples import KINDS
from test_kinds import made, moved
from torch.utils._python_dispatch import TorchDispatchMode
from training_lab import DoomedJob, Killed, TrainingLab, digest, metrics, share_models

from lora_worker.families import change_of, family_of
from lora_worker.moving_average import MovingAverage
from lora_worker.protocol import ProtocolError
from lora_worker.safetensors_file import read_safetensors
from lora_worker.train_request import parse_train
from lora_worker.weight_norms import WeightNorms, norm_of

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")
every_kind = pytest.mark.parametrize(
    "kind", ["locon", "tucker", "lokr", "lokr of two products", "tucker lokr", "whole lokr"]
)


@pytest.fixture
def lab(tmp_path, toy_checkpoint, toy_models, monkeypatch):
    share_models(monkeypatch, toy_models)
    return TrainingLab(tmp_path, toy_checkpoint)


def deltas(models, network):
    """ΔW of every module in F64, by the formula that readers of its file have."""
    found = {}
    for name, branch in network.branches.items():
        shape = models.module_of(branch.target).weight.shape
        parts = {part: value.detach().double() for part, value in branch.parts.items()}
        change = change_of(family_of(set(parts)), parts, shape, branch.alpha)
        found[name] = change.delta(torch.zeros(shape)).double()
    return found


@every_kind
def test_norms_are_those_of_the_whole_change(toy_models, kind):
    network = moved(made(toy_models, KINDS[kind]))
    for name, delta in deltas(toy_models, network).items():
        torch.testing.assert_close(
            norm_of(network.branches[name]).double(), delta.norm(), rtol=1e-4, atol=1e-7, check_dtype=False
        )


@every_kind
def test_what_is_too_long_is_shortened_by_both_factors_alike_and_the_rest_is_left_alone(toy_models, kind):
    network = moved(made(toy_models, KINDS[kind]))
    before = deltas(toy_models, network)
    kept = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    norms = torch.stack([delta.norm() for delta in before.values()])
    limit = norms.median().item()
    scaled, mean, largest = WeightNorms(network, limit).shorten().tolist()

    too_long = {name for name, delta in before.items() if delta.norm() > limit * (1 + 1e-5)}
    assert 0 < len(too_long) < len(before)
    assert scaled == pytest.approx(len(too_long), abs=2)
    assert mean == pytest.approx(norms.clamp_max(limit).mean().item(), rel=1e-4)
    assert largest == pytest.approx(limit, rel=1e-4)
    for name, delta in deltas(toy_models, network).items():
        ratio = min(1, limit / before[name].norm().item())
        torch.testing.assert_close(delta, before[name] * ratio, rtol=1e-4, atol=1e-7)
    for name, parameter in network.named_parameters():
        module, _, part = name.partition(".")
        factor = (parameter.norm() / kept[name].norm()).item()
        if part.endswith(("mid.weight", "_b", "_t2")):
            assert torch.equal(parameter, kept[name])
        elif module in too_long:
            assert factor == pytest.approx((limit / before[module].norm().item()) ** 0.5, rel=1e-4)
        elif before[module].norm() < limit * (1 - 1e-5):
            assert torch.equal(parameter, kept[name])


def test_a_network_that_changes_nothing_is_not_divided_by_zero(toy_models):
    network = made(toy_models, KINDS["locon"])
    assert WeightNorms(network, 1.0).shorten().tolist() == [0, 0, 0]
    assert all(parameter.isfinite().all() for _, parameter in network.named_parameters())


class NeverWaiting(TorchDispatchMode):
    """Fails where a number is taken from the device."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        assert "_local_scalar_dense" not in str(function) and "device" not in kwargs
        return function(*args, **kwargs)


def test_neither_lengths_nor_the_average_wait_for_the_device(toy_models):
    network = moved(made(toy_models, KINDS["locon"]))
    norms = WeightNorms(network, 0.5)
    average = MovingAverage(dict(network.named_parameters()), 0.9)
    with NeverWaiting():
        told = norms.shorten()
        average.update(5)
    assert told[0] > 0


PLAN = {
    "steps": 4,
    "scale_weight_norms": 0.02,
    "unet_lr": 2e-3,
    "text_encoder_lr": 2e-3,
    "save_precision": "fp32",
    "lr_scheduler": {"kind": "constant"},
}


def test_a_training_keeps_to_the_length_and_its_metrics_tell_how_often(lab, toy_models):
    free = {name: value for name, value in PLAN.items() if name != "scale_weight_norms"}
    bound, loose = lab.life(lab.request("bound", **PLAN)), lab.life(lab.request("loose", **free))

    def longest(path):
        tensors, _ = read_safetensors(path)
        norms = []
        for name in tensors:
            if name.endswith("lora_up.weight"):
                module = name.removesuffix(".lora_up.weight")
                up, down = tensors[name].flatten(1), tensors[f"{module}.lora_down.weight"].flatten(1)
                norms.append((up @ down).norm() * tensors[f"{module}.alpha"] / down.shape[0])
        return max(norms).item()

    assert longest(loose["lora"]) > 0.025
    assert longest(bound["lora"]) == pytest.approx(0.02, rel=1e-4)
    lines = metrics(bound["metrics"])
    assert lines[-1]["keys_scaled"] > 0
    assert lines[-1]["max_key_norm"] == pytest.approx(0.02, rel=1e-4)
    assert 0 < lines[-1]["average_key_norm"] <= lines[-1]["max_key_norm"]
    assert "keys_scaled" not in metrics(loose["metrics"])[-1]
    assert read_safetensors(bound["lora"])[1]["ss_scale_weight_norms"] == "0.02"


def test_interrupted_equals_uninterrupted(lab):
    whole = lab.life(lab.request("whole", **PLAN))
    with pytest.raises(Killed):
        lab.life(lab.request("killed", state_every={"steps": 1}, **PLAN), DoomedJob(dies_at=3))
    killed = lab.life(lab.request("killed", **PLAN))
    assert digest(killed["lora"]) == digest(whole["lora"])
    assert metrics(killed["metrics"]) == metrics(whole["metrics"])


@pytest.mark.parametrize("change", [{"scale_weight_norms": 0}, {"network": {**KINDS["loha"]}}])
def test_what_has_no_length_to_keep_to_is_refused(lab, change):
    with pytest.raises(ProtocolError, match="scale_weight_norms"):
        parse_train(lab.request(**{**PLAN, **change}))
