"""Every setting of a training takes effect."""

from __future__ import annotations

import pytest
import torch
from support import RecordingJob
from training_lab import EVERY_LAYER, TrainingLab, share_models

from lora_worker.errors import WorkerError
from lora_worker.safetensors_file import read_safetensors


@pytest.fixture
def lab(tmp_path, toy_checkpoint, toy_models, monkeypatch):
    share_models(monkeypatch, toy_models)
    return TrainingLab(tmp_path, toy_checkpoint)


SETTINGS_WITH_EFFECT = {
    "seed": 6,
    "unet_lr": 1e-3,
    "text_encoder_lr": 5e-4,
    "loraplus_lr_ratio": 16,
    "block_lr": {"OUT01": 0.5},
    "lr_scheduler": {"kind": "constant"},
    "max_grad_norm": 1e-3,
    "batch_size": 1,
    "gradient_accumulation_steps": 2,
    "max_token_length": 150,
    "crop_conditioning": "sd_scripts",
    "latents": "frozen",
    "noise": {"kind": "plain"},
    "noise_offset": 0.05,
    "ip_noise_gamma": 0.1,
    "min_timestep": 500,
    "max_timestep": 500,
    "loss": {"kind": "l1"},
    "min_snr_gamma": 0.01,
    "v_pred_like_loss": 0.1,
    "debiased_estimation": True,
    "mixed_precision": "bf16",
    "save_precision": "bf16",
}
CAPTIONS_WITH_EFFECT = {
    "caption_prefix": "photo,",
    "caption_suffix": "outside",
    "caption_dropout_rate": 1,
    "caption_dropout_every_n_epochs": 1,
    "shuffle_caption": False,
    "caption_separator": "o",
    "keep_tokens": 2,
    "keep_tokens_separator": "fox,",
    "token_warmup_step": 2,
    "caption_tag_dropout_rate": 0.9,
    "secondary_separator": "o",
}
OPTIMIZER_WITH_EFFECT = {
    "betas": [0.8, 0.99],
    "eps": 1e-2,
    "centralization": 1.0,
    "normalization": 0.0,
    "normalization_mode": "lerp",
    "normalize_channels": False,
    "amp_fac": 1.0,
    "clip_gradients": True,
}
NETWORK_WITH_EFFECT = {"dim": 3, "alpha": 2, "conv_dim": 5, "conv_alpha": 2}


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        *((None, name, value) for name, value in SETTINGS_WITH_EFFECT.items()),
        *(("optimizer", name, value) for name, value in OPTIMIZER_WITH_EFFECT.items()),
        *(("captions", name, value) for name, value in CAPTIONS_WITH_EFFECT.items()),
        *(("network", name, value) for name, value in NETWORK_WITH_EFFECT.items()),
    ],
)
def test_every_setting_takes_effect_on_the_weights(lab, usual_weights, part, name, value):
    request = lab.request(steps=2)
    (request["settings"][part] if part else request["settings"])[name] = value
    # Where a LoRA's other fields are equal, as with clip_gradients, the threshold must be one that is reached.
    request["settings"]["optimizer"]["clip_lambda"] = 0.01
    assert weights(lab.life(request)["lora"]) != usual_weights


@pytest.fixture
def usual_weights(lab, cache={}):  # noqa: B006 (one for all tests)
    if not cache:
        request = lab.request("usual", steps=2)
        request["settings"]["optimizer"]["clip_lambda"] = 0.01
        cache["weights"] = weights(lab.life(request)["lora"])
    return cache["weights"]


def weights(path):
    tensors, _ = read_safetensors(path)
    return {name: (tensor.dtype, tensor.shape, tensor.float().numpy().tobytes()) for name, tensor in tensors.items()}


def test_regularization_images_and_their_weight_take_effect(lab, usual_weights):
    def trained(weight):
        request = lab.request(f"kept-{weight}", steps=2)
        request["settings"]["optimizer"]["clip_lambda"] = 0.01
        request["images"][-1]["regularization"] = True
        request["settings"]["regularization"] = {
            "captions": request["settings"]["captions"],
            "prior_loss_weight": weight,
        }
        return read_safetensors(lab.life(request)["lora"])[1], weights(lab.life(request)["lora"])

    (whole_metadata, whole), (_, half) = trained(1.0), trained(0.5)
    assert whole != half and whole != usual_weights
    assert whole_metadata["ss_num_train_images"] == "2"
    assert whole_metadata["ss_num_reg_images"] == "1"


def test_weight_decay_and_the_clip_threshold_take_effect(lab):
    def trained(work, **changes):
        request = lab.request(work, steps=2)
        request["settings"]["optimizer"].update(changes)
        return weights(lab.life(request)["lora"])

    assert trained("decayed", weight_decay=0.1, decouple_weight_decay=True) != trained("usual")
    assert trained("tight", clip_gradients=True, clip_lambda=0.01) != trained("loose", clip_gradients=True)


def test_weight_decay_that_throws_the_weights_off_is_explained(lab):
    """As published, and so it must be: the first update of a matrix without gradient is -lr · decay · weight / eps."""
    request = lab.request(steps=3, **EVERY_LAYER)
    request["settings"]["optimizer"]["weight_decay"] = 0.1
    with pytest.raises(WorkerError, match="step 2") as caught:
        lab.life(request)
    assert "decouple_weight_decay = true" in caught.value.hint


def test_bf16_keeps_the_parameters_in_f32_and_everything_finite(lab):
    outputs = lab.life(lab.request(mixed_precision="bf16", save_precision="fp32", save_steps=[1]))
    tensors, _ = read_safetensors(outputs["lora"])
    assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in tensors.values())
    # Values that bf16 cannot hold show that nothing was rounded on the way.
    assert any(not torch.equal(tensor, tensor.bfloat16().float()) for tensor in tensors.values())


@pytest.mark.parametrize(
    ("changes", "prefixes", "rates"),
    [
        ({"text_encoder_lr": 0}, {"unet"}, {"unet"}),
        ({"unet_lr": 0}, {"te1", "te2"}, {"text_encoder"}),
    ],
)
def test_what_has_a_rate_of_0_is_neither_trained_nor_saved(lab, changes, prefixes, rates):
    job = RecordingJob()
    outputs = lab.life(lab.request(steps=1, **changes), job)
    assert {name.split("_")[1] for name in read_safetensors(outputs["lora"])[0]} == prefixes
    assert set(job.of_type("step")[0]["learning_rates"]) == rates


def test_two_rates_of_0_are_refused(lab):
    with pytest.raises(WorkerError, match="nothing to train"):
        lab.life(lab.request(unet_lr=0, text_encoder_lr=0))
