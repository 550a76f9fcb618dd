"""An average that is kept while a network trains: the one of the formula, bit for bit also after interruptions."""

from __future__ import annotations

import pytest
import torch
from support import RecordingJob
from training_lab import DoomedJob, Killed, TrainingLab, digest, metrics, share_models

from lora_worker.errors import Cancelled
from lora_worker.moving_average import MovingAverage, decay_at
from lora_worker.safetensors_file import read_safetensors

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")


@pytest.fixture
def lab(tmp_path, toy_checkpoint, toy_models, monkeypatch):
    share_models(monkeypatch, toy_models)
    return TrainingLab(tmp_path, toy_checkpoint)


PLAN = {"steps": 4, "batch_size": 1, "save_precision": "fp32", "ema": 0.2}


def weights(path):
    return {name: tensor.double() for name, tensor in read_safetensors(path)[0].items()}


def test_the_average_is_that_of_the_weights_after_each_step(lab):
    outputs = lab.life(lab.request(save_steps=[1, 2, 3], **PLAN))
    steps = [weights(outputs[name]) for name in ("step.1", "step.2", "step.3", "lora")]
    expected = steps[0]
    # min(0.2, 2/11), min(0.2, 3/12), min(0.2, 4/13)
    for weights_now, decay in zip(steps[1:], (2 / 11, 0.2, 0.2), strict=True):
        expected = {name: decay * expected[name] + (1 - decay) * value for name, value in weights_now.items()}
    found = weights(outputs["ema"])
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-9)
    assert any(not torch.equal(value, steps[3][name]) for name, value in found.items())
    metadata = [read_safetensors(outputs[name])[1] for name in ("ema", "lora")]
    assert metadata[0].pop("ss_ema_decay") == "0.2"
    assert metadata[0].pop("sshs_model_hash") != metadata[1].pop("sshs_model_hash")
    assert metadata[0].pop("sshs_legacy_hash") and metadata[1].pop("sshs_legacy_hash")
    assert metadata[0] == metadata[1]


def test_decays_grow_from_nothing_to_what_is_asked_for():
    assert [decay_at(index, 0.5) for index in range(4)] == [0, 2 / 11, 3 / 12, 4 / 13]
    assert decay_at(10_000, 0.99) == 0.99


def test_what_is_trained_does_not_change_with_an_average_beside_it(lab):
    plain = lab.life(lab.request("plain", **{name: value for name, value in PLAN.items() if name != "ema"}))
    averaged = lab.life(lab.request("averaged", **PLAN))
    assert digest(plain["lora"]) == digest(averaged["lora"])
    assert metrics(plain["metrics"]) == metrics(averaged["metrics"])
    assert "ema" not in plain


def test_a_training_that_ends_before_its_last_step_has_no_average(lab):
    assert "ema" not in lab.life(lab.request(save_steps=[2], until=2, **PLAN))


@pytest.mark.parametrize("ends_by", [Killed, Cancelled])
def test_an_average_goes_on_after_two_interruptions_bit_for_bit(lab, ends_by):
    whole = lab.life(lab.request("whole", **PLAN))
    for dies_at in (2, 3):
        with pytest.raises(ends_by):
            lab.life(
                lab.request("broken", state_every={"steps": 1}, **PLAN), DoomedJob(dies_at=dies_at, ends_by=ends_by)
            )
    job = RecordingJob()
    broken = lab.life(lab.request("broken", **PLAN), job)
    assert len(job.of_type("step")) < 4
    assert digest(broken["ema"]) == digest(whole["ema"])


def test_parameters_have_the_average_only_for_a_while():
    parameter = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    average = MovingAverage({"a": parameter}, 0.9)
    average.update(0)
    trained = parameter.data
    with torch.no_grad():
        parameter.add_(11)
    average.update(1)
    with average.in_place():
        torch.testing.assert_close(parameter.data, torch.tensor([1.0 + 11 * 9 / 11, 2.0 + 11 * 9 / 11]))
    assert parameter.data is not average.state()["ema/a"]
    assert parameter.data.data_ptr() == trained.data_ptr()
