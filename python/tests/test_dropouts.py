"""Masks follow from the visit of the image, the module and the purpose, and from nothing else."""

from __future__ import annotations

import pytest
import torch

from lora_worker.dropouts import Dropouts, Masks
from lora_worker.streams import Visit

VISITS = [Visit(epoch, "ab12", index, 0) for epoch in range(2) for index in range(2)]
CPU = torch.device("cpu")


def masks(visits=VISITS, seed=5, **settings):
    return Masks(Dropouts(**settings), seed, visits, CPU)


def test_a_mask_does_not_depend_on_the_cut_or_on_what_was_drawn_before():
    settings = {"dropout": 0.3, "rank_dropout": 0.4, "module_dropout": 0.2}
    x = torch.ones(4, 7, 16)
    whole = masks(**settings)
    added, ranks = whole.added("one", x), whole.ranks("one", x, -1)
    whole.added("two", x)
    assert torch.equal(whole.added("one", x), added)
    halves = [masks(VISITS[:2], **settings), masks(VISITS[2:], **settings)]
    assert torch.equal(torch.cat([half.added("one", x[:2]) for half in halves]), added)
    assert torch.equal(torch.cat([half.ranks("one", x[:2], -1) for half in halves]), ranks)


def test_masks_of_other_visits_modules_and_seeds_are_others():
    x = torch.ones(4, 400)
    rows = masks(dropout=0.5).added("one", x)
    assert len({row.numpy().tobytes() for row in rows}) == 4
    assert not torch.equal(masks(dropout=0.5).added("two", x), rows)
    assert not torch.equal(masks(dropout=0.5, seed=6).added("one", x), rows)


def test_dropout_keeps_the_mean_and_leaves_out_its_share():
    added = masks(dropout=0.25).added("one", torch.ones(4, 50, 500))
    assert added.mean().item() == pytest.approx(1, abs=0.02)
    assert added.unique().tolist() == pytest.approx([0.0, 4 / 3])


@pytest.mark.parametrize(("shape", "axis"), [((4, 9, 600), -1), ((4, 600, 3, 3), 1), ((4, 600), -1)])
def test_whole_ranks_are_left_out_for_an_image(shape, axis):
    left = masks(rank_dropout=0.25).ranks("one", torch.ones(shape), axis)
    by_rank = left.movedim(axis, 1).flatten(2) if left.dim() > 2 else left[:, :, None]
    assert torch.equal(by_rank.amin(2), by_rank.amax(2))
    assert by_rank.amax(2).mean().item() == pytest.approx(0.75, abs=0.04)
    scaled = masks(rank_dropout=0.25, rank_dropout_scale=True).ranks("one", torch.ones(shape), axis)
    assert scaled.flatten(1).mean(dim=1).tolist() == [pytest.approx(1)] * 4


def test_no_rank_left_gives_zeros_and_not_nan():
    left = masks(rank_dropout=0.999, rank_dropout_scale=True).ranks("one", torch.ones(4, 2), -1)
    assert left.isfinite().all() and left.min() == 0


def test_module_dropout_takes_all_or_nothing_of_an_image():
    visits = [Visit(0, "ab12", index, 0) for index in range(400)]
    rows = masks(visits, module_dropout=0.25).added("one", torch.ones(400, 3)).sum(dim=1)
    assert set(rows.tolist()) == {0.0, 3.0}
    assert (rows == 0).float().mean().item() == pytest.approx(0.25, abs=0.06)


def test_an_image_with_several_rows_has_a_mask_for_each():
    rows = masks(VISITS[:2], dropout=0.5).added("one", torch.ones(4, 400))
    assert len({row.numpy().tobytes() for row in rows}) == 4
    assert torch.equal(masks(VISITS[:1], dropout=0.5).added("one", torch.ones(2, 400)), rows[:2])
