"""The settings that reproduce sd-scripts where we do otherwise: batches and steps, the text projection, the noise."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_lab import TrainingLab, digest, share_models

from lora_worker.batches import BucketPlan, Entry
from lora_worker.checkpointing import set_checkpointing
from lora_worker.errors import WorkerError
from lora_worker.memory_plan import Plan
from lora_worker.network import create
from lora_worker.network_targets import trainable
from lora_worker.safetensors_file import read_safetensors, write_safetensors
from lora_worker.text_projection import transposed_projection
from lora_worker.train_request import parse_train
from lora_worker.training import Trainer
from lora_worker.visits import Visits, sizes_of_sd_scripts

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
        each = trainer._try_gradients(batches, lambda *_: None)
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
            trainer.memory._take(Plan(largest, frozenset()))
            trainer._try_gradients(batches, lambda *_: None)
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
    changes = (
        {},
        {"accumulation": "sd_scripts"},
        {"text_projection": "transposed"},
        {"crop_conditioning": "sd_scripts"},
        {"latents": "frozen"},
        {"noise": noise},
    )
    made = [digest(lab.life(lab.request(f"{place}", **change))["lora"]) for place, change in enumerate(changes)]
    assert len(set(made)) == len(changes)
    again = [digest(lab.life(lab.request(f"again-{place}", **change))["lora"]) for place, change in enumerate(changes)]
    assert made == again


def test_the_file_tells_what_is_as_in_sd_scripts_and_nothing_where_it_is_not(lab):
    def told(work, **changes):
        metadata = read_safetensors(lab.life(lab.request(work, steps=1, **changes))["lora"])[1]
        names = ("text_projection", "crop_conditioning", "latents", "accumulation", "multires_noise_std_axes")
        return [metadata.get(f"ss_{name}") for name in names]

    noise = {"kind": "multires", "iterations": 12, "discount": 0.4, "std_axes": "batch"}
    theirs = {"text_projection": "transposed", "crop_conditioning": "sd_scripts", "latents": "frozen"}
    assert told("ours") == [None] * 5
    assert told("theirs", **theirs, accumulation="sd_scripts", noise=noise) == [
        *theirs.values(),
        "sd_scripts",
        "batch",
    ]


# What is said of the crop (crop_conditioning = sd_scripts)


@pytest.mark.parametrize(
    ("original", "bucket", "left", "top"),
    [
        ((512, 512), (1024, 1024), 0, 0),
        ((832, 1216), (832, 1216), 0, 0),
        ((1000, 600), (1312, 768), 16, 0),
        ((1024, 768), (1184, 864), 16, 0),
        ((768, 1024), (864, 1184), 0, 16),
        ((1920, 1080), (1344, 768), 0, 6),
        ((1080, 1920), (768, 1344), 6, 0),
        ((3000, 2000), (1248, 832), 0, 0),
        ((1000, 3000), (576, 1728), 0, 0),
        ((4000, 500), (2048, 256), 0, 0),
    ],
)
def test_the_reported_crop_is_that_of_sd_scripts(lab, original, bucket, left, top):
    """The worked examples that were computed with sd-scripts' own function."""
    image = replace(parse_train(lab.request()).images[0], original=original, bucket=bucket, crop=(9, 9))
    (width, height), (target_width, target_height) = original, bucket
    assert sizes_of_sd_scripts(image, False) == (height, width, top, left, target_height, target_width)


def test_a_mirrored_picture_is_told_what_was_cut_off_on_the_right(lab):
    """Of 1024 pixels 854.67 are filled: what is left is 84 on the left, rounded down, and 85.33 on the right."""
    image = replace(parse_train(lab.request()).images[0], original=(641, 600), bucket=(1024, 800))
    assert sizes_of_sd_scripts(image, False)[2:4] == (0, 84)
    assert sizes_of_sd_scripts(image, True)[2:4] == (0, 85)


def test_what_is_said_of_the_crop_reaches_the_batch_and_nothing_else_changes(lab):
    def batches(**changes):
        request = lab.request(batch_size=3, **changes)
        return Visits(parse_train(request), prediction="epsilon", zero_terminal_snr=False).micro_batches(0)

    for ours, theirs in zip(batches(), batches(crop_conditioning="sd_scripts"), strict=True):
        assert torch.equal(ours.noisy_B4HW, theirs.noisy_B4HW)
        assert not torch.equal(ours.sizes_B6, theirs.sizes_B6)
        for image, row in zip(theirs.images, theirs.sizes_B6.tolist(), strict=True):
            assert row in [list(sizes_of_sd_scripts(image, flipped)) for flipped in (False, True)]


# Latents (latents = frozen)


def test_frozen_latents_are_drawn_once_for_an_image_and_once_for_its_mirrored_form(lab):
    def drawn(latents, seed=5):
        request = lab.request(latents=latents, seed=seed, images=lab.images[:1], noise={"kind": "plain"}, batch_size=1)
        flat = lab.images[0]
        for name, mean in (("latents", 100.0), ("latents_flipped", -100.0)):
            write_safetensors(flat[name], {"mean": torch.full((4, 8, 8), mean), "logvar": torch.zeros(4, 8, 8)})
        visits = Visits(parse_train(request), prediction="epsilon", zero_terminal_snr=False)
        (planned,) = visits.plan.visits(0)
        image = parse_train(request).images[0]
        made = {False: [], True: []}
        for epoch in range(3):
            later = replace(planned, visit=replace(planned.visit, epoch=epoch))
            for flipped, list_ in made.items():
                list_.append(visits._latents(later, image, flipped) / 0.13025)
        return made

    frozen, fresh = drawn("frozen"), drawn("fresh")
    for flipped, mean in ((False, 100), (True, -100)):
        assert all(torch.equal(frozen[flipped][0], other) for other in frozen[flipped][1:])
        assert not any(torch.equal(fresh[flipped][0], other) for other in fresh[flipped][1:])
        assert (frozen[flipped][0] - mean).std().item() == pytest.approx(1, abs=0.15)
    # Another draw for the mirrored form, and for another seed.
    assert not torch.allclose(frozen[False][0] - 100, frozen[True][0] + 100)
    assert not torch.equal(frozen[False][0], drawn("frozen", seed=6)[False][0])


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
