"""A step reads nothing from its device: whatever it looked at, a GPU would have to finish first.

Told on torch's meta device, which computes shapes and has no numbers: looking at one raises.
"""

from __future__ import annotations

import pytest
import torch
from optimizer_samples import OPTIMIZERS, SAVEUS
from support import RecordingJob
from training_lab import TrainingLab, metrics, share_models, steps_of

from lora_worker.models import load_models
from lora_worker.network import create
from lora_worker.network_targets import trainable
from lora_worker.optimizers import build_optimizer, parse_optimizer
from lora_worker.protocol import Fields
from lora_worker.stages import train
from lora_worker.train_request import parse_train
from lora_worker.training import Reading, Trainer
from lora_worker.visits import Visits


@pytest.fixture(scope="module")
def meta_models(toy_checkpoint):
    """Without numbers."""
    return load_models(toy_checkpoint, device="meta", dtype=torch.float32)


@pytest.fixture
def step(tmp_path, toy_checkpoint, meta_models):
    """Does the first step of a training, which also looks whether its optimizer can be saved."""
    networks = []
    # So that branches keep their parameters when they move there.
    swaps = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)

    def do(**changes):
        work = parse_train(TrainingLab(tmp_path, toy_checkpoint).request(**changes))
        networks.append(create(meta_models, trainable(meta_models.targets()), work.settings.network, seed=0))
        networks[-1].attach()
        trainer = Trainer(meta_models, networks[-1], work.settings, lambda message: None)
        visits = Visits(work, prediction="epsilon", zero_terminal_snr=False)
        return trainer.step(0, visits.micro_batches(0), lambda *_: None)

    yield do
    torch.__future__.set_swap_module_params_on_conversion(swaps)
    for network in networks:
        network.remove()


@pytest.mark.parametrize(
    "settings",
    [
        {"ema": 0.9, "scale_weight_norms": 1, "min_snr_gamma": 5},
        {"gradient_checkpointing": "on", "loraplus_lr_ratio": 4, "loss": {"kind": "l1"}},
    ],
)
def test_a_step_looks_at_nothing_and_its_numbers_are_there_to_be_read(step, settings):
    reading = step(**settings)
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        reading.numbers()


def test_passing_over_bad_steps_looks_since_it_has_to(step):
    with pytest.raises(RuntimeError, match="meta"):
        step(on_non_finite="skip")


# What these libraries look at is theirs: Prodigy decides with numbers from the device how far to go, and Adafactor
# takes the length of each parameter with `scale_parameter`.
LOOKING = ("Prodigy", "Adafactor with a first moment")

SAMPLES = {**OPTIMIZERS, "clipping SAVEUS": {**SAVEUS, "clip_gradients": True, "weight_decay": 0.1}}


def optimize(name):
    """Two steps, so that the second has a memory of the first."""
    shapes = [(4, 8), (8, 4), (4, 8, 3, 3), (8, 4, 1, 1), (8,)]
    parameters = [torch.nn.Parameter(torch.empty(shape, device="meta")) for shape in shapes]
    optimizer = build_optimizer(parse_optimizer(Fields(SAMPLES[name], "optimizer")), [{"params": parameters}], 1e-3)
    for _ in range(2):
        for parameter in parameters:
            parameter.grad = torch.empty_like(parameter)
        optimizer.step()


@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in LOOKING])
def test_an_optimizer_looks_at_nothing(name):
    optimize(name)


@pytest.mark.parametrize("name", LOOKING)
def test_those_that_look_are_known(name):
    with pytest.raises(RuntimeError, match="item"):
        optimize(name)


def test_a_training_reads_once_for_a_step(tmp_path, toy_checkpoint, toy_models, monkeypatch):
    """In one transfer, behind the step that follows."""
    share_models(monkeypatch, toy_models)
    monkeypatch.setattr(train, "reads_late", lambda device: True)
    told = []
    numbers, step = Reading.numbers, Trainer.step
    monkeypatch.setattr(Reading, "numbers", lambda self: told.append("read") or numbers(self))
    monkeypatch.setattr(Trainer, "step", lambda self, *rest: told.append("step") or step(self, *rest))
    lab = TrainingLab(tmp_path, toy_checkpoint)
    job = RecordingJob()
    outputs = lab.life(lab.request(steps=3, save_steps=[1, 2, 3]), job)
    # Saves need no reading of their own. The last step has none behind it.
    assert told == ["step", "step", "read", "step", "read", "read"]
    assert steps_of(job) == [1, 2, 3] == [line["step"] for line in metrics(outputs["metrics"])]
