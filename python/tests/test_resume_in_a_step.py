"""A training that is stopped in the middle of a step, twice, at random micro-batches: the same bytes as without."""

from __future__ import annotations

import random

import pytest
from support import RecordingJob
from training_lab import Killed, TrainingLab, digest, metrics, share_models, steps_of

from lora_worker.errors import Cancelled
from lora_worker.training import Trainer

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

STEPS, MICRO_BATCHES = 4, 3
PLAN = {
    "steps": STEPS,
    "batch_size": 1,
    "gradient_accumulation_steps": MICRO_BATCHES,
    "save_steps": [2],
    "state_every": {"steps": 1},
}


@pytest.fixture
def lab(tmp_path, toy_checkpoint, toy_models, monkeypatch):
    share_models(monkeypatch, toy_models)
    return TrainingLab(tmp_path, toy_checkpoint)


@pytest.fixture
def stop_before(monkeypatch):
    """Arranges for the micro-batch of this number, counted from 0 over all lives, to end its life instead."""
    losses = Trainer.losses

    def arrange(numbers, ends_by):
        computed = []

        def doomed(self, batch):
            computed.append(batch)
            if len(computed) - 1 in numbers:
                raise ends_by
            return losses(self, batch)

        monkeypatch.setattr(Trainer, "losses", doomed)
        return computed

    return arrange


@pytest.mark.parametrize("case", range(4))
@pytest.mark.parametrize("ends_by", [Killed, Cancelled])
def test_stopped_twice_at_random_micro_batches_equals_uninterrupted(lab, stop_before, case, ends_by):
    whole = lab.life(lab.request("whole", **PLAN))
    chance = random.Random(case)
    first = chance.randrange(1, STEPS * MICRO_BATCHES)
    # The second life begins with the whole step again that the first was in.
    begins = first - first % MICRO_BATCHES
    second = first + 1 + chance.randrange(STEPS * MICRO_BATCHES - begins)
    computed = stop_before({first, second}, ends_by)
    for _ in range(2):
        with pytest.raises(ends_by):
            lab.life(lab.request("broken", **PLAN))
    job = RecordingJob()
    broken = lab.life(lab.request("broken", **PLAN), job)
    assert {name: digest(path) for name, path in broken.items() if name != "metrics"} == {
        name: digest(path) for name, path in whole.items() if name != "metrics"
    }
    assert metrics(broken["metrics"]) == metrics(whole["metrics"])
    # No more is computed twice than what was begun of a step, and of the one that a kill left without a state.
    assert len(computed) <= STEPS * MICRO_BATCHES + 2 * (2 * MICRO_BATCHES)
    assert steps_of(job)[-1] == STEPS
