"""Which visits a step gets, and how they are cut."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_worker.batches import Entry, Plan, micro_batches

entries = st.lists(st.tuples(st.integers(1, 3), st.sampled_from([(64, 64), (64, 96)])), min_size=1, max_size=9).map(
    lambda drawn: [Entry(f"{place:064x}", 0, repeats, bucket) for place, (repeats, bucket) in enumerate(drawn)]
)


@given(entries, st.integers(1, 12), st.integers(0, 99))
def test_every_epoch_visits_each_image_as_often_as_it_repeats(images, images_per_step, seed):
    plan = Plan(images, seed=seed, images_per_step=images_per_step)
    steps = -(-3 * plan.visits_per_epoch // images_per_step)
    visits = [planned for step in range(steps) for planned in plan.visits(step)]
    for epoch in range(3):
        seen = Counter(planned.place for planned in visits if planned.visit.epoch == epoch)
        assert seen == {place: image.repeats for place, image in enumerate(images)}
    assert len({planned.visit for planned in visits}) == len(visits)


@given(entries, st.integers(0, 99))
def test_the_chain_of_visits_does_not_depend_on_the_size_of_a_step(images, seed):
    by_two = Plan(images, seed=seed, images_per_step=2)
    by_six = Plan(images, seed=seed, images_per_step=6)
    chain = [planned for step in range(6) for planned in by_two.visits(step)]
    assert [planned for step in range(2) for planned in by_six.visits(step)] == chain


@given(entries, st.randoms())
def test_listing_the_images_in_another_order_changes_nothing(images, random):
    mixed = random.sample(images, len(images))
    ours = Plan(images, seed=1, images_per_step=5).visits(3)
    theirs = Plan(mixed, seed=1, images_per_step=5).visits(3)
    assert [planned.visit for planned in ours] == [planned.visit for planned in theirs]


def test_any_step_can_be_asked_for_first():
    images = [Entry(letter, 0, 2, (64, 64)) for letter in "abcde"]
    plan = Plan(images, seed=4, images_per_step=3)
    assert Plan(images, seed=4, images_per_step=3).visits(7) == [plan.visits(step) for step in range(8)][7]


def test_orders_differ_between_epochs_and_between_seeds():
    images = [Entry(f"{place}", 0, 1, (64, 64)) for place in range(9)]

    def order(seed, epoch):
        return [planned.place for planned in Plan(images, seed=seed, images_per_step=9).visits(epoch)]

    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_a_step_knows_the_epoch_that_it_begins_in():
    plan = Plan([Entry(letter, 0, 1, (64, 64)) for letter in "abcd"], seed=0, images_per_step=3)
    assert [plan.epoch_of(step) for step in range(5)] == [0, 0, 1, 2, 3]


def test_equal_images_are_visited_apart():
    plan = Plan([Entry("a", 0, 1, (64, 64)), Entry("a", 1, 1, (64, 64))], seed=0, images_per_step=2)
    assert {planned.visit.index for planned in plan.visits(0)} == {0, 1}


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="no images"):
        Plan([], seed=0, images_per_step=1)


def test_micro_batches_hold_one_bucket_and_at_most_so_many_images():
    square, wide = (64, 64), (96, 64)
    cut = micro_batches("abcdefg", [square, wide, square, square, wide, square, square], 2)
    assert cut == [["a", "c"], ["d", "f"], ["g"], ["b", "e"]]


def regularized(images: int, others: int, *, repeats: int = 1) -> Plan:
    entries = [Entry(f"{place}", 0, 1, (64, 64)) for place in range(images)]
    entries += [Entry(f"r{place}", 0, repeats, (64, 64), regularization=True) for place in range(others)]
    return Plan(entries, seed=1, images_per_step=2 * images)


@pytest.mark.parametrize(("images", "others", "repeats"), [(6, 2, 1), (6, 2, 2), (6, 4, 1), (3, 7, 1), (4, 4, 1)])
def test_regularization_images_are_half_of_each_epoch_and_take_turns(images, others, repeats):
    plan = regularized(images, others, repeats=repeats)
    assert plan.visits_per_epoch == 2 * images
    seen = Counter()
    for epoch in range(7):
        visits = [planned.visit for planned in plan.visits(epoch)]
        assert all(visit.epoch == epoch for visit in visits)
        assert len(set(visits)) == len(visits)
        own = [visit.digest for visit in visits if not visit.digest.startswith("r")]
        assert sorted(own) == [f"{place}" for place in range(images)]
        seen.update(visit.digest for visit in visits if visit.digest.startswith("r"))
    assert sum(seen.values()) == 7 * images
    assert max(seen.values()) - min(seen.values()) <= repeats


def test_regularization_images_leave_the_order_of_none_as_it_was():
    entries = [Entry(f"{place}", 0, 2, (64, 64)) for place in range(5)]
    plan = Plan(entries, seed=3, images_per_step=4)
    assert plan.visits_per_epoch == 10
    assert [planned.place for planned in plan.visits(0)] == [1, 3, 0, 2]
