"""The settings that reproduce sd-scripts where we do otherwise: batches and steps, the text projection, the noise."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_lab import TrainingLab, digest, share_models

from lora_worker.batches import BucketPlan, Entry
from lora_worker.errors import WorkerError
from lora_worker.network import create
from lora_worker.network_targets import trainable
from lora_worker.stages.train import transposed_projection
from lora_worker.train_request import parse_train
from lora_worker.training import Trainer, set_checkpointing
from lora_worker.visits import Visits

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

entries = st.lists(st.tuples(st.integers(1, 3), st.sampled_from([(64, 64), (64, 96)])), min_size=1, max_size=9).map(
    lambda drawn: [Entry(f"{place:064x}", 0, repeats, bucket) for place, (repeats, bucket) in enumerate(drawn)]
)


@pytest.fixture
def lab(tmp_path, toy_checkpoint, toy_models, monkeypatch):
    share_models(monkeypatch, toy_models)
    return TrainingLab(tmp_path, toy_checkpoint)


@contextmanager
def attached(models, work):
    network = create(models, trainable(models.targets()), work.settings.network, seed=0)
    network.attach()
    try:
        yield network, Trainer(models, network, work.settings, lambda message: None)
    finally:
        network.remove()
        set_checkpointing(models, False)


# Batches and steps (accumulation = sd_scripts)


@given(entries, st.integers(1, 4), st.integers(1, 4), st.integers(0, 99))
def test_batches_are_cut_short_at_the_end_of_a_bucket_and_steps_at_the_end_of_an_epoch(
    images, batch_size, accumulation, seed
):
    plan = BucketPlan(images, seed=seed, batch_size=batch_size, accumulation=accumulation)
    for epoch in range(2):
        steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
        assert {plan.epoch_of(step) for step in steps} == {epoch}
        taken = [plan.batches(step) for step in steps]
        assert all(len(batches) == accumulation for batches in taken[:-1])
        assert 1 <= len(taken[-1]) <= accumulation
        batches = [batch for step in taken for batch in step]
        seen = Counter(planned.place for batch in batches for planned in batch)
        assert seen == {place: image.repeats for place, image in enumerate(images)}
        assert all(planned.visit.epoch == epoch for batch in batches for planned in batch)
        for bucket in {image.bucket for image in images}:
            ours = [len(batch) for batch in batches if images[batch[0].place].bucket == bucket]
            count = sum(image.repeats for image in images if image.bucket == bucket)
            assert sorted(ours, reverse=True) == [batch_size] * (count // batch_size) + [count % batch_size] * (
                count % batch_size > 0
            )
        for batch in batches:
            assert len({images[planned.place].bucket for planned in batch}) == 1


def test_any_step_can_be_asked_for_first():
    images = [Entry(letter, 0, 2, (64, 64)) for letter in "abcde"]
    made = [BucketPlan(images, seed=4, batch_size=3, accumulation=2) for _ in range(2)]
    assert made[0].batches(7) == [made[1].batches(step) for step in range(8)][7]


def test_each_batch_weighs_the_same_and_a_short_step_has_a_smaller_gradient(lab, toy_models):
    """Three images in two buckets are two batches, of two images and of one, where a step should have three."""
    work = parse_train(lab.request(accumulation="sd_scripts", batch_size=2, gradient_accumulation_steps=3))
    visits = Visits(work, prediction="epsilon", zero_terminal_snr=False)
    batches = visits.micro_batches(0)
    assert sorted(len(batch.images) for batch in batches) == [1, 2]
    with attached(toy_models, work) as (network, trainer):
        each = trainer._try_gradients(batches, lambda: None)
        found = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
        trainer.optimizer.zero_grad(set_to_none=True)
        for batch in batches:
            (trainer.losses(batch).mean() / 3).backward()
        assert len(each) == 3 and found
        for name, parameter in network.named_parameters():
            if name in found:
                torch.testing.assert_close(found[name], parameter.grad, rtol=1e-5, atol=1e-9)


def test_too_little_memory_does_not_change_what_a_batch_weighs(lab, toy_models):
    work = parse_train(lab.request(accumulation="sd_scripts", batch_size=2, gradient_accumulation_steps=2))
    batches = Visits(work, prediction="epsilon", zero_terminal_snr=False).micro_batches(0)
    with attached(toy_models, work) as (network, trainer):
        gradients = []
        for largest in (2, 1):
            trainer._memory.largest_batch = largest
            trainer._try_gradients(batches, lambda: None)
            gradients.append({name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None})
            trainer.optimizer.zero_grad(set_to_none=True)
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-7)


# The pooled text (text_projection = transposed)


def test_the_pooled_text_goes_through_the_transposed_projection_and_back(toy_models):
    weight = toy_models.text.two.text_projection.weight
    given = weight.detach().clone()
    x = torch.randn(2, weight.shape[1])
    with transposed_projection(toy_models):
        torch.testing.assert_close(toy_models.text.two.text_projection(x), x @ given)
    assert torch.equal(weight, given)


def test_a_projection_that_is_not_square_is_refused():
    two = SimpleNamespace(text_projection=torch.nn.Linear(4, 3, bias=False))
    models = SimpleNamespace(text=SimpleNamespace(two=two))
    with pytest.raises(WorkerError, match="cannot be transposed"), transposed_projection(models):
        pass


def test_each_setting_gives_another_lora_and_they_are_no_matter_of_chance(lab):
    noise = {"kind": "multires", "iterations": 12, "discount": 0.4, "std_axes": "batch"}
    changes = ({}, {"accumulation": "sd_scripts"}, {"text_projection": "transposed"}, {"noise": noise})
    made = [digest(lab.life(lab.request(f"{place}", **change))["lora"]) for place, change in enumerate(changes)]
    assert len(set(made)) == len(changes)
    again = [digest(lab.life(lab.request(f"again-{place}", **change))["lora"]) for place, change in enumerate(changes)]
    assert made == again


# Pyramid noise (std_axes = batch)


def test_noise_is_divided_by_the_deviation_of_the_batch(lab):
    def noise(axes):
        multires = {"kind": "multires", "iterations": 12, "discount": 0.4, "std_axes": axes}
        images = [lab.images[0], lab.images[2]]
        request = lab.request(images=images, batch_size=2, noise=multires)
        return (
            Visits(parse_train(request), prediction="epsilon", zero_terminal_snr=False).micro_batches(0)[0].target_B4HW
        )

    together, apart = noise("batch"), noise("image")
    assert together.std().item() == pytest.approx(1, abs=1e-5)
    assert [one.std().item() for one in apart] == pytest.approx([1, 1], abs=1e-5)
    assert not any(math.isclose(one.std().item(), 1, abs_tol=1e-5) for one in together)
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one / one.std(), other)
