"""A few steps with every schedule and every optimizer: the loss on the same images falls."""

from __future__ import annotations

import pytest
from optimizer_samples import OPTIMIZERS
from training_lab import TrainingLab, share_models

from lora_worker import training
from lora_worker.network import create
from lora_worker.network_targets import trainable
from lora_worker.train_request import parse_train
from lora_worker.training import Trainer
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
}


@pytest.fixture
def losses_with(tmp_path, toy_checkpoint, toy_models, monkeypatch):
    """The loss on the images of the first step: before each of a few steps on them, and after."""
    share_models(monkeypatch, toy_models)
    lab = TrainingLab(tmp_path, toy_checkpoint)

    def run(**changes):
        work = parse_train(lab.request(batch_size=3, steps=4, **changes))
        network = create(toy_models, trainable(toy_models.targets()), work.settings.network, seed=0)
        network.attach()
        try:
            trainer = Trainer(toy_models, network, work.settings, lambda message: None)
            batches = Visits(work, prediction="epsilon", zero_terminal_snr=False).micro_batches(0)
            losses = [trainer.step(step, batches, lambda: None).numbers()[0] for step in range(4)]
            return [*losses, trainer.step(3, batches, lambda: None).numbers()[0]]
        finally:
            network.remove()
            training.set_checkpointing(toy_models, False)

    return run


@pytest.mark.parametrize("kind", SCHEDULES)
def test_the_loss_falls_with_every_schedule(losses_with, kind):
    first, *_, last = losses_with(unet_lr=1e-2, text_encoder_lr=1e-3, lr_scheduler={"kind": kind, **SCHEDULES[kind]})
    assert last < 0.99 * first


RATES = {"Adafactor with a first moment": 10, "Prodigy": 1, "Lion": 3e-3, "CAME": 1e-3}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_loss_falls_with_every_optimizer(losses_with, name):
    rate = RATES.get(name, 1e-2)
    first, *_, last = losses_with(
        unet_lr=rate, text_encoder_lr=rate, lr_scheduler={"kind": "constant"}, optimizer=OPTIMIZERS[name]
    )
    assert last < 0.99 * first
