"""Training with masks, on real models: what is masked out has no say in what is learned."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from training_lab import TrainingLab, metrics, share_models

from lora_worker.loss import ElementLoss, ImageLoss, LossWeights
from lora_worker.masks import MaskedLoss
from lora_worker.network import create
from lora_worker.network_targets import trainable
from lora_worker.train_request import parse_train
from lora_worker.training import Trainer
from lora_worker.validation import HeldOutVisits
from lora_worker.visits import Visits

LEFT = torch.cat([torch.ones(8, 4), torch.zeros(8, 4)], dim=1)


@pytest.fixture
def lab(tmp_path, toy_checkpoint, toy_models, monkeypatch):
    share_models(monkeypatch, toy_models)
    return TrainingLab(tmp_path, toy_checkpoint)


def visits_of(request):
    return Visits(parse_train(request), prediction="epsilon", zero_terminal_snr=False)


def only_batch(request):
    [batch] = visits_of(request).micro_batches(0)
    return batch


def gradients(lab, models, batch, **changes):
    """Of all parameters, flat, of a network whose up matrices are not zero."""
    settings = parse_train(lab.request(**changes)).settings
    network = create(models, trainable(models.targets()), settings.network, seed=0)
    generator = torch.Generator().manual_seed(1)
    for branch in network.branches.values():
        branch.up.data.normal_(std=0.02, generator=generator)
    network.attach()
    try:
        trainer = Trainer(models, network, settings, lambda message: None)
        trainer.losses(batch).sum().backward()
        return torch.cat([parameter.grad.flatten() for _, parameter in network.named_parameters()])
    finally:
        network.remove()


def test_what_a_mask_leaves_out_has_no_gradient(lab, toy_models):
    batch = only_batch(lab.request(images=[lab.masked(0, LEFT)], batch_size=2))
    usual = gradients(lab, toy_models, batch)

    def with_target(columns):
        target = batch.target_B4HW.clone()
        for row, mask in enumerate(batch.masks_B1HW):
            target[row][:, columns(mask[0].bool())] += 100
        return gradients(lab, toy_models, replace(batch, target_B4HW=target))

    assert usual.abs().max() > 0
    assert torch.equal(with_target(lambda mask: ~mask), usual)
    assert not torch.equal(with_target(lambda mask: mask), usual)


@pytest.mark.parametrize("kind", ["l2", "l1", "huber", "smooth_l1"])
def test_a_mask_multiplies_every_loss_before_its_mean(kind):
    generator = torch.Generator().manual_seed(0)
    output, target = (torch.randn(2, 4, 8, 8, generator=generator, requires_grad=True) for _ in range(2))
    how = {"prediction": "epsilon", "zero_terminal_snr": False, "device": torch.device("cpu")}
    loss = ImageLoss(ElementLoss(kind), LossWeights(min_snr_gamma=5), **how)
    timesteps = torch.tensor([10, 700])
    each = loss(output, target.detach(), timesteps, LEFT.expand(2, 1, 8, 8))
    left = loss(output[..., :4], target[..., :4].detach(), timesteps)
    # Not renormalized: half of the places count, so half of the loss is left.
    torch.testing.assert_close(each, left / 2)
    each.sum().backward()
    assert output.grad[..., 4:].abs().max() == 0
    assert output.grad[..., :4].abs().min() > 0


def test_an_image_that_is_masked_out_as_a_whole_changes_nothing(lab):
    black = torch.zeros(8, 8)
    for masked_loss in ({}, {"masked_loss": {"unmasked_weight": 0, "normalize": True}}):
        request = lab.request(f"work{len(masked_loss)}", images=[lab.masked(0, black)], steps=1, **masked_loss)
        [line] = metrics(lab.life(request)["metrics"])
        assert (line["loss"], line["grad_norm"]) == (0, 0)


def test_without_masks_nothing_is_different_and_beside_one_an_image_without_counts_everywhere(lab):
    images = [lab.masked(0, LEFT), lab.images[2]]
    assert only_batch(lab.request(images=lab.images[:1], batch_size=1)).masks_B1HW is None
    batch = only_batch(lab.request(images=images, batch_size=2))
    by_digest = dict(zip((image.digest for image in batch.images), batch.masks_B1HW, strict=True))
    assert by_digest[lab.images[2]["digest"]].tolist() == torch.ones(1, 8, 8).tolist()
    assert by_digest[lab.images[0]["digest"]].mean() == 0.5
    whole = only_batch(lab.request(images=[lab.images[0], lab.images[2]], batch_size=2))
    assert torch.equal(whole.noisy_B4HW, batch.noisy_B4HW)


def test_a_mirrored_visit_has_the_mirrored_mask(lab):
    images = [{**lab.masked(0, LEFT), "repeats": 12}]
    batch = only_batch(lab.request(images=images, batch_size=12))
    flipped = [sizes[3].item() != 3 for sizes in batch.sizes_B6]
    assert {True, False} == set(flipped)
    for mask, is_flipped in zip(batch.masks_B1HW, flipped, strict=True):
        assert torch.equal(mask[0], LEFT.flip(-1) if is_flipped else LEFT)


def test_parts_of_a_batch_keep_their_masks(lab):
    first, second = only_batch(lab.request(images=[lab.masked(0, LEFT), lab.images[2]], batch_size=2)).parts([1, 1])
    assert first.masks_B1HW.shape == second.masks_B1HW.shape == (1, 1, 8, 8)


def test_masks_of_held_out_images_count_whole_whatever_the_training_makes_of_its_own(lab):
    held_out = {"images": [lab.masked(2, LEFT)], "timesteps": [400], "steps": [1]}
    found = []
    for masked_loss in ({}, {"masked_loss": {"unmasked_weight": 0.5, "normalize": False}}):
        work = parse_train(lab.request(images=lab.images[:2], held_out=held_out, **masked_loss))
        visits = HeldOutVisits(work, work.held_out, prediction="epsilon", zero_terminal_snr=False)
        found += [batch.masks_B1HW[0, 0] for batch in visits.all()]
    assert torch.equal(found[0], LEFT * 2)
    assert torch.equal(found[0], found[1])


def test_a_state_of_before_is_gone_on_from_and_not_where_masks_count_otherwise(lab):
    usual = parse_train(lab.request()).identity("")
    whole = {"unmasked_weight": 0, "normalize": False}
    assert parse_train(lab.request(masked_loss=whole)).identity("") == usual
    assert parse_train(lab.request()).settings.masked_loss == MaskedLoss()
    others = [
        lab.request(masked_loss={**whole, "normalize": True}),
        lab.request(images=[lab.masked(0, LEFT), *lab.images[1:]]),
    ]
    assert len({usual, *(parse_train(one).identity("") for one in others)}) == 3
