"""Shuffled captions keep their tags."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lora_worker.captions import shuffled
from lora_worker.streams import Visit, visit_stream


def stream(epoch=0):
    return visit_stream(0, Visit(epoch, "ab", 0, 0), "caption")


@given(st.text(alphabet="ab ,\n"), st.integers(0, 50))
def test_shuffling_keeps_every_tag_and_adds_none(caption, epoch):
    tags = sorted(tag.strip() for tag in caption.split(",") if tag.strip())
    found = shuffled(caption, stream(epoch))
    assert sorted(found.split(", ") if found else []) == tags


def test_the_order_changes_from_visit_to_visit_and_is_the_same_for_a_visit():
    caption = "red fox, sitting, looking at viewer, grass"
    orders = [shuffled(caption, stream(epoch)) for epoch in range(20)]
    assert len(set(orders)) > 5
    assert orders == [shuffled(caption, stream(epoch)) for epoch in range(20)]


def test_spaces_and_empty_tags_are_tidied():
    assert shuffled("  red fox ,, ", stream()) == "red fox"
    assert shuffled("", stream()) == ""
