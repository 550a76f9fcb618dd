"""Losses against their formulas in float64, worked out here by hand."""

from __future__ import annotations

import math

import pytest
import torch
from training_lab import TrainingLab, share_models

from lora_worker.errors import WorkerError
from lora_worker.loss import ElementLoss, ImageLoss, LossWeights, thresholds, timestep_weights
from lora_worker.protocol import Fields, ProtocolError
from lora_worker.safetensors_file import read_safetensors
from lora_worker.train_request import parse_train

CPU = torch.device("cpu")
# ᾱ of the published schedule, and σ = √((1 − ᾱ) / ᾱ).
SIGMA = {0: 0.0291675, 1: 0.0413145, 100: 0.3439318, 250: 0.6957995, 500: 1.6182796, 999: 14.614647}


def image_loss(loss, weights=LossWeights(), prediction="epsilon"):  # noqa: B008 (it never changes)
    return ImageLoss(loss, weights, prediction=prediction, zero_terminal_snr=False, device=CPU)


def of_one_element(loss, difference, timestep, *how):
    """The loss where output and target differ by that much everywhere."""
    output = torch.full((1, 4, 2, 2), difference)
    made = image_loss(loss, *how)
    return made(output, torch.zeros_like(output), torch.tensor([timestep])).item()


@pytest.mark.parametrize("difference", [-3.0, -0.05, 0.0, 0.25, 2.0])
def test_l2_and_l1_are_square_and_absolute_value(difference):
    assert of_one_element(ElementLoss("l2"), difference, 5) == pytest.approx(difference**2, rel=1e-6)
    assert of_one_element(ElementLoss("l1"), difference, 5) == pytest.approx(abs(difference), rel=1e-6)


@pytest.mark.parametrize("timestep", SIGMA)
@pytest.mark.parametrize("difference", [-3.0, 0.05, 0.5])
@pytest.mark.parametrize("schedule", ["snr", "exponential", "constant"])
def test_huber_and_smooth_l1_follow_their_formulas(timestep, difference, schedule):
    c, scale = 0.2, 1.5
    threshold = {
        "snr": (1 - c) / (1 + SIGMA[timestep]) ** 2 + c,
        "exponential": c ** (timestep / 1000) * scale,
        "constant": c * scale,
    }[schedule]
    excess = math.hypot(difference, threshold) - threshold
    for kind, wanted in (("huber", 2 * threshold * excess), ("smooth_l1", 2 * excess)):
        found = of_one_element(ElementLoss(kind, c, schedule, scale), difference, timestep)
        assert found == pytest.approx(wanted, rel=2e-5), kind


def test_thresholds_go_by_the_noise_that_a_zero_terminal_schedule_really_adds():
    usual, rescaled = (thresholds(ElementLoss("huber"), zero_terminal_snr=snr) for snr in (False, True))
    assert usual[0] == pytest.approx(rescaled[0].item())
    assert rescaled[999].item() == pytest.approx(0.1)
    assert usual[999] > rescaled[999]
    assert torch.isfinite(rescaled).all()


def test_each_image_has_the_mean_of_its_own_elements():
    output = torch.stack([torch.full((4, 2, 2), 1.0), torch.full((4, 2, 2), 3.0)])
    output[1, 0] = 0.0
    made = image_loss(ElementLoss())
    assert made(output, torch.zeros_like(output), torch.tensor([0, 999])).tolist() == [1.0, 0.75 * 9]


def test_a_prediction_in_bf16_is_compared_in_f32():
    output = torch.full((1, 4, 2, 2), 1.0).bfloat16()
    target = torch.full((1, 4, 2, 2), 1.0 + 2**-12)
    made = image_loss(ElementLoss())
    assert made(output, target, torch.tensor([3])).item() == pytest.approx(2**-24)


@pytest.mark.parametrize("change", [{"c": 0}, {"scale": 0}, {"schedule": "linear"}, {"kind": "l3"}, {"c": "0.1"}])
def test_a_loss_that_makes_no_sense_is_refused(change):
    with pytest.raises(ProtocolError, match=next(iter(change))):
        ElementLoss.parse(Fields({"kind": "huber", "c": 0.1, "schedule": "snr", "scale": 1.0} | change, "loss"))


# Weights of timesteps

SNR = {0: 1175.440, 1: 585.862, 100: 8.453865, 250: 2.0655315, 500: 0.3818500, 750: 0.0595126, 999: 0.0046819}


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@pytest.mark.parametrize("timestep", SNR)
def test_weights_follow_their_formulas(prediction, timestep):
    snr, is_v = SNR[timestep], prediction == "v"
    capped = min(snr, 1000)
    like_noise = capped / (capped + 1)
    wanted = {
        LossWeights(min_snr_gamma=5): min(snr, 5) / (snr + 1 if is_v else snr),
        LossWeights(debiased_estimation=True): 1 / (capped + 1) if is_v else 1 / math.sqrt(capped),
    }
    if is_v:
        wanted[LossWeights(scale_v_pred_loss_like_noise_pred=True)] = like_noise
        # One behind the other, as sd-scripts has them.
        both = LossWeights(min_snr_gamma=5, scale_v_pred_loss_like_noise_pred=True, debiased_estimation=True)
        wanted[both] = min(snr, 5) / (snr + 1) * like_noise / (capped + 1)
    else:
        wanted[LossWeights(v_pred_like_loss=0.3)] = 1 + 0.3 / like_noise
    for weights, weight in wanted.items():
        found = of_one_element(ElementLoss(), 2.0, timestep, weights, prediction)
        assert found == pytest.approx(4 * weight, rel=1e-3), weights


def test_no_weights_are_no_weights():
    assert timestep_weights(LossWeights(), "epsilon") is None


@pytest.mark.parametrize(
    ("weights", "prediction"),
    [(LossWeights(scale_v_pred_loss_like_noise_pred=True), "epsilon"), (LossWeights(v_pred_like_loss=0.1), "v")],
)
def test_a_weight_for_the_other_kind_of_prediction_is_refused(weights, prediction):
    with pytest.raises(WorkerError, match="this checkpoint predicts") as caught:
        timestep_weights(weights, prediction)
    assert caught.value.kind == "bad-input"


@pytest.mark.parametrize("change", [{"min_snr_gamma": 0}, {"v_pred_like_loss": -1}, {"debiased_estimation": 1}])
def test_a_weight_that_makes_no_sense_is_refused(change):
    usual = {"scale_v_pred_loss_like_noise_pred": False, "v_pred_like_loss": 0, "debiased_estimation": False}
    with pytest.raises(ProtocolError, match=next(iter(change))):
        LossWeights.parse(Fields(usual | change, "settings"))


# In a training

HUBER = {"kind": "huber", "c": 0.2, "schedule": "constant", "scale": 1.0}


@pytest.fixture
def lab(tmp_path, toy_checkpoint, toy_models, monkeypatch):
    share_models(monkeypatch, toy_models)
    return TrainingLab(tmp_path, toy_checkpoint)


def test_the_file_tells_its_loss(lab):
    assert parse_train(lab.request(loss=HUBER)).settings.loss == ElementLoss("huber", 0.2, "constant", 1.0)
    _, metadata = read_safetensors(lab.life(lab.request(steps=1, loss=HUBER))["lora"])
    told = {name: metadata[f"ss_{name}"] for name in ("loss_type", "huber_schedule", "huber_c", "huber_scale")}
    assert told == {"loss_type": "huber", "huber_schedule": "constant", "huber_c": "0.2", "huber_scale": "1.0"}


def test_the_file_tells_only_weights_that_are_set(lab):
    settings = {"min_snr_gamma": 5, "debiased_estimation": True}
    _, metadata = read_safetensors(lab.life(lab.request(steps=1, **settings))["lora"])
    assert (metadata["ss_min_snr_gamma"], metadata["ss_debiased_estimation"]) == ("5.0", "True")
    _, plain = read_safetensors(lab.life(lab.request("plain", steps=1))["lora"])
    assert not {"ss_min_snr_gamma", "ss_debiased_estimation", "ss_v_pred_like_loss", "ss_huber_c"} & set(plain)
