"""Which way of fitting a step into memory is chosen, and what is said of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lora_worker.memory_plan import Needs, choose, cuts, describe, smaller
from lora_worker.memory_profile import Block, Bytes, Profile

MB = 10**6
GB = 10**9
TERA = 10**12


def block(name, kept, flops):
    return Block(name, Bytes(0, kept * MB), Bytes(0, 10 * MB), flops)


PROFILE = Profile(
    (*(block(f"cheap {place}", 600, TERA // 4) for place in range(4)), block("dear", 600, 4 * TERA)),
    Bytes(0, 200 * MB),
    5 * TERA,
)
"""3.2 GB for each image."""


def needs(batch_size=8, *, may=True, must=False):
    return Needs(PROFILE, 2 * GB, batch_size, may_checkpoint=may and not must, must_checkpoint=must)


def test_a_batch_is_cut_into_as_few_parts_as_fit_of_nearly_equal_size():
    assert cuts(8, 3) == [3, 3, 2]
    assert cuts(8, 8) == cuts(8, 100) == [8]
    assert cuts(8, 7) == [4, 4]
    assert cuts(3, 1) == [1, 1, 1]
    for batch in range(1, 20):
        for largest in range(1, 20):
            found = cuts(batch, largest)
            assert sum(found) == batch
            assert max(found) <= largest
            assert max(found) - min(found) <= 1


def test_nothing_is_done_where_there_is_room():
    plan = choose(needs(), 28 * GB)
    assert (plan.micro_batch, plan.checkpointed) == (8, frozenset())
    assert plan.bytes == 2 * GB + 8 * 3200 * MB


def test_a_batch_is_cut_before_much_is_computed_twice():
    plan = choose(needs(), 15 * GB)
    assert (plan.micro_batch, plan.checkpointed) == (4, frozenset())


def test_what_is_needed_between_two_passes_counts_where_it_is_more():
    large = replace(needs(), between=30 * GB)
    assert choose(large, 40 * GB).bytes == 32 * GB
    assert replace(needs(), between=GB).plan(8, frozenset()) == needs().plan(8, frozenset())
    # No way to compute a pass makes it less.
    assert choose(large, 20 * GB).micro_batch == 1


def test_blocks_that_save_much_for_little_are_computed_twice_first_and_no_more_than_needed():
    plan = choose(needs(1), 5 * GB)
    assert len(plan.checkpointed) == 1
    assert "dear" not in plan.checkpointed
    assert plan.bytes <= 5 * GB


def test_the_settings_have_their_way():
    assert choose(needs(must=True), 1000 * GB).checkpointed == {block.name for block in PROFILE.blocks}
    plan = choose(needs(may=False), 5 * GB)
    assert (plan.micro_batch, plan.checkpointed) == (1, frozenset())
    assert plan.bytes > 5 * GB


def test_where_nothing_fits_the_smallest_is_tried():
    plan = choose(needs(), GB)
    assert (plan.micro_batch, len(plan.checkpointed)) == (1, 5)


def test_more_blocks_come_before_fewer_images():
    plan = choose(needs(2), 9 * GB)
    seen = [(plan.micro_batch, len(plan.checkpointed))]
    while (after := smaller(needs(2), plan)) is not None:
        assert after.bytes < plan.bytes
        plan = after
        seen.append((plan.micro_batch, len(plan.checkpointed)))
    assert seen == sorted(seen, key=lambda each: (-each[0], each[1]))
    assert seen[0] == (2, 0)
    assert seen[-1] == (1, 5)
    assert len(seen) < 12


def test_a_block_that_is_computed_twice_has_its_turn_at_the_end():
    first, last = block("first", 600, 1), block("last", 600, 1)
    both = Profile((first, last), Bytes(5, 0), 2)
    assert both.peak(1, ()) == 5 + 1200 * MB
    # While the last one is computed again, the first still has its inputs.
    assert both.peak(1, {"first", "last"}) == 5 + 10 * MB + int(1.9 * 600 * MB)
    assert both.recomputed({"first"}) == 1


@pytest.mark.parametrize(
    ("plan", "batch_size", "accumulation", "total", "said"),
    [
        (choose(needs(), 100 * GB), 8, 6, 141 * GB, "micro-batch 8 x 6, no checkpointing, 28 of 141 GB"),
        (choose(needs(1), 5 * GB), 8, 6, 8 * GB, "micro-batch 1 x 48, 1 of 5 blocks checkpointed, 4.6 of 8.0 GB"),
        (choose(needs(must=True), 100 * GB), 8, 1, None, "micro-batch 8 x 1, all checkpointed"),
    ],
)
def test_the_choice_is_said_in_a_line(plan, batch_size, accumulation, total, said):
    told = describe(plan, batch_size=batch_size, accumulation=accumulation, blocks=5, total=total)
    assert told == said
    assert len(told) <= 64
