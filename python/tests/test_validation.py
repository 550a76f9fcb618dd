"""Held-out images: measured alike every time, and never learned from."""

from __future__ import annotations

import json
import statistics

import pytest
import torch
from support import RecordingJob
from training_lab import DoomedJob, Killed, TrainingLab, digest, metrics, share_models, steps_of

from lora_worker.errors import Cancelled
from lora_worker.protocol import ProtocolError
from lora_worker.stages import train
from lora_worker.train_request import parse_train
from lora_worker.validation import HeldOutVisits, best_step

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")


@pytest.fixture
def lab(tmp_path, toy_checkpoint, toy_models, monkeypatch):
    share_models(monkeypatch, toy_models)
    return TrainingLab(tmp_path, toy_checkpoint)


def measuring(lab, work="work", steps=(2, 4), **changes):
    """Learns from two images and measures with the third."""
    held_out = {"images": [lab.images[2]], "timesteps": [200, 800], "steps": list(steps)}
    plan = {"steps": 4, "images": lab.images[:2], "save_steps": [2], "held_out": held_out, **changes}
    return lab.request(work, **plan)


def held_out_losses(path):
    return {line["step"]: line["held_out_loss"] for line in metrics(path) if "held_out_loss" in line}


def visits_of(request):
    work = parse_train(request)
    return HeldOutVisits(work, work.held_out, prediction="epsilon", zero_terminal_snr=False)


def test_measuring_changes_nothing_in_the_training(lab):
    plain = lab.life(lab.request("plain", steps=4, images=lab.images[:2], save_steps=[2]))
    measured = lab.life(measuring(lab, "measured"))
    assert digest(measured["lora"]) == digest(plain["lora"])
    assert digest(measured["step.2"]) == digest(plain["step.2"])
    others = [line for line in metrics(measured["metrics"]) if "held_out_loss" not in line]
    assert others == metrics(plain["metrics"])


def test_the_lowest_loss_is_in_the_metrics_and_its_step_is_the_best(lab):
    outputs = lab.life(measuring(lab))
    losses = held_out_losses(outputs["metrics"])
    assert sorted(losses) == [2, 4]
    lowest = min(losses, key=losses.get)
    assert outputs["best"] == (outputs["step.2"] if lowest == 2 else outputs["lora"])
    lines = [json.loads(line)["step"] for line in open(outputs["metrics"])]
    assert lines == [1, 2, 2, 3, 4, 4]


def test_every_measurement_is_of_the_same_noise_at_the_same_timesteps_whatever_the_seed(lab):
    one, again, other = (list(visits_of(measuring(lab, **changes)).all()) for changes in ({}, {}, {"seed": 9}))
    assert [batch.timesteps_B.tolist() for batch in one] == [[200], [800]]
    for batch, same, seeded in zip(one, again, other, strict=True):
        assert torch.equal(batch.noisy_B4HW, same.noisy_B4HW)
        assert torch.equal(batch.noisy_B4HW, seeded.noisy_B4HW)


def test_what_reproduces_sd_scripts_in_training_changes_no_measurement(lab):
    theirs = {"crop_conditioning": "sd_scripts", "latents": "frozen"}
    one, other = (list(visits_of(measuring(lab, **changes)).all()) for changes in ({}, theirs))
    for batch, same in zip(one, other, strict=True):
        assert torch.equal(batch.noisy_B4HW, same.noisy_B4HW)
        assert torch.equal(batch.sizes_B6, same.sizes_B6)


def test_the_loss_is_the_mean_squared_error_without_any_dropout_or_mirroring(lab, toy_models, monkeypatch):
    """Of a LoRA whose up matrices are zero: computed outright with the bare models."""
    request = measuring(lab, steps=[1], **{"unet_lr": 1e-30, "text_encoder_lr": 0})
    captions = {"shuffle_caption": True, "caption_dropout_rate": 1.0}
    request["settings"]["captions"] |= captions
    request["settings"]["loss"] = {"kind": "l1"}
    found = held_out_losses(lab.life(request)["metrics"])[1]
    each = []
    with torch.no_grad():
        for batch in visits_of(request).all():
            context, pooled = toy_models.text.encode_ids(batch.ids_one_BNT, batch.ids_two_BNT)
            output = toy_models.predict(batch.noisy_B4HW, batch.timesteps_B, context, pooled, batch.sizes_B6)
            each.append((output - batch.target_B4HW).square().mean().item())
    assert found == pytest.approx(statistics.mean(each), rel=1e-4)
    plain = parse_train(request).held_out.images[0].caption
    seen = []

    def tokens(captions, *rest, **more):
        seen.append(captions)
        return torch.zeros(1, 1, 77, dtype=torch.long)

    monkeypatch.setattr("lora_worker.visits.token_ids", tokens)
    next(iter(visits_of(request).all()))
    assert seen[0] == [plain]


def test_the_order_of_held_out_images_means_nothing(lab):
    request = measuring(lab)
    request["held_out"]["images"] = lab.images[1:]
    losses = held_out_losses(lab.life(request)["metrics"])
    request = measuring(lab, "other")
    request["held_out"]["images"] = lab.images[:0:-1]
    assert held_out_losses(lab.life(request)["metrics"]) == losses


@pytest.mark.parametrize("ends_by", [Killed, Cancelled])
def test_interrupted_equals_uninterrupted(lab, ends_by):
    whole = lab.life(measuring(lab, "whole"))
    for dies_at in (2, 3):
        with pytest.raises(ends_by):
            lab.life(measuring(lab, "broken", state_every={"steps": 1}), DoomedJob(dies_at=dies_at, ends_by=ends_by))
    broken = lab.life(measuring(lab, "broken"))
    assert metrics(broken["metrics"]) == metrics(whole["metrics"])
    assert digest(broken["best"]) == digest(whole["best"])


def test_a_cancel_is_heard_while_measuring_and_the_step_is_measured_by_the_next_life(lab, monkeypatch):
    whole = lab.life(measuring(lab, "whole"))
    job = RecordingJob()
    measure = train.held_out_loss

    def cancelling(models, visits, check, texts):
        job.cancel()
        return measure(models, visits, check, texts)

    monkeypatch.setattr(train, "held_out_loss", cancelling)
    with pytest.raises(Cancelled):
        lab.life(measuring(lab, "broken"), job)
    monkeypatch.setattr(train, "held_out_loss", measure)
    resumed = RecordingJob()
    broken = lab.life(measuring(lab, "broken"), resumed)
    assert steps_of(resumed) == [3, 4]
    assert metrics(broken["metrics"]) == metrics(whole["metrics"])


def test_of_equal_losses_the_first_step_is_the_best_and_numbers_that_are_none_do_not_count():
    assert best_step({10: 0.5, 20: 0.25, 30: 0.25, 40: float("nan")}) == 20
    assert best_step({10: float("inf")}) is None
    assert best_step({}) is None


def test_a_timestep_that_does_not_exist_is_refused(lab):
    request = measuring(lab)
    request["held_out"]["timesteps"] = [1000]
    with pytest.raises(ProtocolError, match=r'"work.held_out.timesteps" must be numbers from 0 to 999'):
        parse_train(request)
