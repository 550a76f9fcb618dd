"""Streams are addressed, and different addresses are independent."""

from __future__ import annotations

from dataclasses import replace

import torch

from lora_worker.streams import (
    Visit,
    epoch_stream,
    flips,
    module_stream,
    permutation,
    uniform_integer,
    visit_stream,
)

VISIT = Visit(epoch=2, digest="ab", index=0, repeat=0)


def numbers(generator):
    return torch.rand(4, generator=generator).tolist()


def test_an_address_always_gives_the_same_numbers():
    first = numbers(visit_stream(7, VISIT, "noise"))
    numbers(visit_stream(7, VISIT, "flip"))
    assert numbers(visit_stream(7, VISIT, "noise")) == first


def test_every_part_of_an_address_matters():
    streams = [
        visit_stream(7, VISIT, "noise"),
        visit_stream(8, VISIT, "noise"),
        visit_stream(7, VISIT, "latent"),
        visit_stream(7, replace(VISIT, epoch=3), "noise"),
        visit_stream(7, replace(VISIT, digest="abc"), "noise"),
        visit_stream(7, replace(VISIT, index=1), "noise"),
        visit_stream(7, replace(VISIT, repeat=1), "noise"),
        epoch_stream(7, 2, "noise"),
        module_stream(7, "ab", "noise"),
    ]
    drawn = [tuple(numbers(stream)) for stream in streams]
    assert len(set(drawn)) == len(drawn)


def test_the_global_random_state_is_left_alone():
    before = torch.random.get_rng_state()
    numbers(visit_stream(7, VISIT, "noise"))
    permutation(epoch_stream(1, 1, "order"), 9)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_numbers_do_not_change_from_version_to_version():
    assert permutation(epoch_stream(0, 0, "order"), 8).tolist() == [6, 1, 7, 3, 5, 0, 4, 2]
    assert uniform_integer(visit_stream(0, VISIT, "timestep"), 1000) == 935


def test_draws_are_spread_evenly():
    visits = [Visit(epoch, "ab", 0, 0) for epoch in range(2000)]
    heads = sum(flips(visit_stream(0, visit, "flip")) for visit in visits)
    assert 900 < heads < 1100
    timesteps = [uniform_integer(visit_stream(0, visit, "timestep"), 1000) for visit in visits]
    assert 470 < sum(timesteps) / len(timesteps) < 530
    assert min(timesteps) >= 0 and max(timesteps) <= 999
