"""A few steps with every schedule, optimizer, loss, network and noise, and their options: the loss on the same images
falls."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from optimizer_samples import OPTIMIZERS, SAVEUS
from test_kinds import KINDS
from training_lab import TrainingLab, share_models

from lora_worker.checkpointing import set_checkpointing
from lora_worker.network import create
from lora_worker.network_targets import chosen_targets, offered_norms, with_single_layers
from lora_worker.process import Process, as_said
from lora_worker.train_request import parse_train
from lora_worker.training import Trainer, trained_components
from lora_worker.visits import Visits

SCHEDULES = {
    "constant_with_warmup": {"warmup": 1},
    "linear": {"warmup": 0.25},
    "cosine": {"num_cycles": 0.5, "warmup": 1},
    "cosine_with_restarts": {"num_cycles": 2, "warmup": 0},
    "polynomial": {"power": 2, "lr_end": 1e-7, "warmup": 0},
    "inverse_sqrt": {"timescale": 2, "warmup": 0},
    "cosine_with_min_lr": {"min_lr_ratio": 0.1, "num_cycles": 0.5, "warmup": 0},
    "warmup_stable_decay": {
        "decay": 0.5,
        "decay_type": "1-sqrt",
        "warmup_type": "linear",
        "min_lr_ratio": 0,
        "num_cycles": 0.5,
        "warmup": 1,
    },
    "piecewise_constant": {"step_rules": "1:2,0.5:4,0.1"},
    "python": {"class": "torch.optim.lr_scheduler.OneCycleLR", "args": {"max_lr": 1e-2, "total_steps": 6}},
}


@pytest.fixture
def losses_with(tmp_path, toy_checkpoint, toy_models, monkeypatch):
    """The loss on the images of the first step: before each of a few steps on them, and after."""
    share_models(monkeypatch, toy_models)
    lab = TrainingLab(tmp_path, toy_checkpoint)

    def run(prediction="epsilon", batch_size=3, has_masks=False, **changes):
        if has_masks:
            left = torch.cat([torch.ones(8, 4), torch.zeros(8, 4)], dim=1)
            changes["images"] = [lab.masked(0, left), lab.masked(2, left.T), lab.images[1]]
        work = parse_train(lab.request(batch_size=batch_size, steps=4, **changes))
        models = as_said(toy_models, Process(prediction, "off"))
        offered = (*models.targets(), *offered_norms(models.architecture, work.settings.network))
        settings = with_single_layers(work.settings, offered)
        targets = chosen_targets(offered, settings.network, trained_components(settings))
        network = create(models, targets, settings.network, seed=0)
        network.attach()
        try:
            trainer = Trainer(models, network, settings, lambda message: None)
            batches = Visits(work, prediction=prediction, zero_terminal_snr=False).micro_batches(0)
            losses = [trainer.step(step, batches, lambda *_: None).numbers()[0] for step in range(4)]
            return [*losses, trainer.step(3, batches, lambda *_: None).numbers()[0]]
        finally:
            network.remove()
            set_checkpointing(toy_models, False)

    return run


@pytest.mark.parametrize("kind", SCHEDULES)
def test_the_loss_falls_with_every_schedule(losses_with, kind):
    first, *_, last = losses_with(unet_lr=1e-2, text_encoder_lr=1e-3, lr_scheduler={"kind": kind, **SCHEDULES[kind]})
    assert last < 0.99 * first


def test_the_loss_falls_with_the_rates_that_adafactor_finds_itself(losses_with):
    first, *_, last = losses_with(
        unet_lr=1,
        text_encoder_lr=1,
        optimizer=OPTIMIZERS["Adafactor"],
        lr_scheduler={"kind": "adafactor", "warmup_init": False},
    )
    assert last < 0.99 * first


FAST = {"unet_lr": 1e-2, "text_encoder_lr": 1e-3, "lr_scheduler": {"kind": "constant"}}
OPTIONS: dict[str, dict[str, Any]] = {
    "SAVEUS as documented": {**SAVEUS, "normalization_mode": "lerp"},
    "SAVEUS of whole tensors": {**SAVEUS, "normalize_channels": False, "centralization": 1.0},
    "SAVEUS that clips": {**SAVEUS, "clip_gradients": True, "clip_lambda": 0.5, "amp_fac": 0.0},
    "SAVEUS that decays": {**SAVEUS, "weight_decay": 0.1, "decouple_weight_decay": True, "normalization": 0.0},
    "Prodigy with its options": {
        **OPTIMIZERS["Prodigy"],
        "use_bias_correction": True,
        "safeguard_warmup": True,
        "decouple_weight_decay": False,
    },
    "CAME that decays": {**OPTIMIZERS["CAME"], "weight_decay": 0.1},
}
ROBUST = {"c": 0.1, "scale": 1}
LOSSES: dict[str, dict[str, Any]] = {
    "l1": {"loss": {"kind": "l1"}},
    "huber by noise": {"loss": {"kind": "huber", "schedule": "snr", **ROBUST}},
    "huber by time": {"loss": {"kind": "huber", "schedule": "exponential", **ROBUST}},
    "huber with one threshold": {"loss": {"kind": "huber", "schedule": "constant", **ROBUST}},
    "smooth l1": {"loss": {"kind": "smooth_l1", "schedule": "snr", **ROBUST}},
    "min-SNR": {"min_snr_gamma": 5},
    "debiased estimation": {"debiased_estimation": True},
    "a little like v": {"v_pred_like_loss": 0.1},
    "v": {"prediction": "v"},
    "v like noise": {"prediction": "v", "scale_v_pred_loss_like_noise_pred": True},
    "v with min-SNR": {"prediction": "v", "min_snr_gamma": 5},
    "masks": {"has_masks": True},
    "masks that count as a whole": {"has_masks": True, "masked_loss": {"unmasked_weight": 0.1, "normalize": True}},
}
NOISES: dict[str, dict[str, Any]] = {
    "plain": {"noise": {"kind": "plain"}},
    "offset": {"noise_offset": 0.1, "noise_offset_random_strength": True, "adaptive_noise_scale": 0.01},
    "perturbed input": {"ip_noise_gamma": 0.1, "ip_noise_gamma_random_strength": True},
    "some timesteps": {"min_timestep": 100, "max_timestep": 700},
    "as in sd-scripts": {
        "noise": {"kind": "multires", "iterations": 6, "discount": 0.3, "std_axes": "batch"},
        "accumulation": "sd_scripts",
        "crop_conditioning": "sd_scripts",
        "latents": "frozen",
    },
    "lengths of weights": {"scale_weight_norms": 1},
    "long captions": {"max_token_length": 150},
}
LOCON = KINDS["locon"]
NETWORKS: dict[str, dict[str, Any]] = {
    **KINDS,
    "attn-mlp": {**LOCON, "preset": "attn-mlp"},
    "attn-only": {**LOCON, "preset": "attn-only"},
    "unet-only": {**LOCON, "preset": "unet-only"},
    "MLPs of the text encoders": {**LOCON, "text_encoder_modules": "mlp"},
    "some modules": {**LOCON, "modules": ["lora_unet_output_blocks_*"]},
    "ranks by block": {**LOCON, "dims": {"OUT01": 5, "TE1": 0}, "conv_dims": {"MID00": 2}},
    "ranks by layer": {**LOCON, "dims": {"*_attn2_to_?": 5, "OUT02": 0}, "zero_dims": "all"},
    "the root of the rank": {**LOCON, "rs_lora": True},
    "norms": {**LOCON, "train_norm": True},
    "dropouts": {**LOCON, "dropout": 0.05, "rank_dropout": 0.05, "rank_dropout_scale": True, "module_dropout": 0.01},
}

RATES = {"Adafactor with a first moment": 10, "Prodigy": 1, "Lion": 3e-3, "CAME": 1e-3}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_loss_falls_with_every_optimizer(losses_with, name):
    rate = RATES.get(name, 1e-2)
    first, *_, last = losses_with(
        unet_lr=rate, text_encoder_lr=rate, lr_scheduler={"kind": "constant"}, optimizer=OPTIMIZERS[name]
    )
    assert last < 0.99 * first


@pytest.mark.parametrize("name", OPTIONS)
def test_the_loss_falls_with_every_option_of_an_optimizer(losses_with, name):
    rate = RATES.get(name.partition(" ")[0], 1e-2)
    rates = {"unet_lr": rate, "text_encoder_lr": rate, "lr_scheduler": {"kind": "constant"}}
    first, *_, last = losses_with(**rates, optimizer=OPTIONS[name])
    assert last < 0.99 * first


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_falls_with_every_loss(losses_with, name):
    first, *_, last = losses_with(**FAST, **LOSSES[name])
    assert last < 0.99 * first


@pytest.mark.parametrize("name", NOISES)
def test_the_loss_falls_with_every_noise_and_what_reproduces_sd_scripts(losses_with, name):
    first, *_, last = losses_with(**FAST, **NOISES[name])
    assert last < 0.99 * first


@pytest.mark.parametrize("name", NETWORKS)
def test_the_loss_falls_with_every_network(losses_with, name):
    network = NETWORKS[name]
    first, *_, last = losses_with(**FAST | {"unet_lr": 3e-3, "text_encoder_lr": 3e-4}, batch_size=1, network=network)
    assert last < 0.99 * first
