"""Captions at visits: tables worked out by hand, what holds for every caption, and how often things happen."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_worker.captions import (
    CaptionSettings,
    Moment,
    Tags,
    tags_in_warmup,
    taken_apart,
    visited,
    without_wildcards,
)
from lora_worker.streams import Visit, visit_stream

PLAIN = CaptionSettings(
    caption_prefix=None,
    caption_suffix=None,
    caption_dropout_rate=0,
    caption_dropout_every_n_epochs=0,
    wildcards=False,
    shuffle_caption=False,
    caption_separator=",",
    keep_tokens=0,
    keep_tokens_separator=None,
    token_warmup_step=0,
    token_warmup_min=1,
    caption_tag_dropout_rate=0,
    secondary_separator=None,
)
SHUFFLED = replace(PLAIN, shuffle_caption=True)


def at(caption, how, *, visit=0, epoch=0, step=0, steps=100):
    """The caption at one of many visits; `visit` tells them apart, and `epoch` counts from 0."""
    stream = partial(visit_stream, 0, Visit(epoch, "ab", 0, visit))
    return visited(caption, how, Moment(epoch, step, steps), stream)


def tags_of(caption):
    return caption.split(", ") if caption else []


# Settings that leave nothing to chance, with what comes out.


@pytest.mark.parametrize(
    ("changes", "caption", "wanted"),
    [
        # Nothing that concerns tags is on: not even white space is tidied.
        ({}, "  red fox ,,snow, ", "  red fox ,,snow, "),
        ({"keep_tokens": 1}, "fox ,snow", "fox ,snow"),
        ({"caption_prefix": "photo,", "caption_suffix": "end"}, "fox", "photo, fox end"),
        ({"caption_dropout_rate": 1, "caption_prefix": "photo"}, "fox", ""),
        ({"caption_dropout_every_n_epochs": 1}, "fox", ""),
        # Step 0 of a warm-up: what is fixed, and token_warmup_min of the rest.
        ({"token_warmup_step": 10}, "a, b, c, d", "a"),
        ({"token_warmup_step": 10, "token_warmup_min": 0}, "a, b, c, d", ""),
        ({"token_warmup_step": 10, "keep_tokens": 2}, "a, b, c, d", "a, b, c"),
        ({"token_warmup_step": 10, "token_warmup_min": 9}, "a, b, c, d", "a, b, c, d"),
        # All flexible tags are left out.
        ({"caption_tag_dropout_rate": 1}, "a, b", ""),
        ({"caption_tag_dropout_rate": 1, "keep_tokens": 1}, "a, b, c", "a"),
        ({"caption_tag_dropout_rate": 1, "keep_tokens": 9}, "a, b, c", "a, b, c"),
        ({"caption_tag_dropout_rate": 1, "keep_tokens_separator": "|||"}, "a, b ||| c, d ||| e, f", "a, b, e, f"),
        ({"caption_tag_dropout_rate": 1, "keep_tokens_separator": "|||"}, "||| c, d |||", ""),
        # A third mark is text of the fixed end.
        ({"caption_tag_dropout_rate": 1, "keep_tokens_separator": "|||"}, "a ||| b ||| c ||| d", "a, c ||| d"),
        # In a caption without the mark, keep_tokens counts; in one with it, it does not.
        ({"caption_tag_dropout_rate": 1, "keep_tokens_separator": "|||", "keep_tokens": 2}, "a, b, c", "a, b"),
        ({"caption_tag_dropout_rate": 1, "keep_tokens_separator": "|||", "keep_tokens": 2}, "a ||| b, c", "a"),
        # Tags are joined by comma and space, whatever came between them.
        ({"token_warmup_step": 1, "token_warmup_min": 9, "caption_separator": ";"}, "a; b, c;;d;", "a, b, c, d"),
        # Several tags that move as one.
        ({"caption_tag_dropout_rate": 1, "keep_tokens": 1, "secondary_separator": ";;"}, "a;; b, c", "a, b"),
        ({"secondary_separator": ";;", "caption_separator": "."}, "a;;b", "a.b"),
    ],
)
def test_what_becomes_of_a_caption(changes, caption, wanted):
    assert at(caption, replace(PLAIN, **changes)) == wanted


def test_spaces_and_empty_tags_are_tidied_where_tags_are_moved():
    assert at("  red fox ,, ", SHUFFLED) == "red fox"
    assert at("", SHUFFLED) == ""


def test_the_order_changes_from_visit_to_visit_and_is_the_same_for_a_visit():
    caption = "red fox, sitting, looking at viewer, grass"
    orders = [at(caption, SHUFFLED, epoch=epoch) for epoch in range(20)]
    assert len(set(orders)) > 5
    assert orders == [at(caption, SHUFFLED, epoch=epoch) for epoch in range(20)]


def test_every_order_of_three_tags_is_about_equally_frequent():
    orders = [at("a, b, c", SHUFFLED, visit=visit) for visit in range(3000)]
    counts = {order: orders.count(order) for order in set(orders)}
    assert len(counts) == 6
    # Three standard deviations of a binomial with p = 1/6.
    assert all(abs(count - 500) < 62 for count in counts.values())


def test_epochs_without_captions_are_counted_from_1():
    how = replace(PLAIN, caption_dropout_every_n_epochs=3)
    assert [at("fox", how, epoch=epoch) for epoch in range(7)] == ["fox", "fox", "", "fox", "fox", "", "fox"]


# Token warm-up.


@pytest.mark.parametrize(
    ("warmup", "least", "count", "wanted"),
    [
        # floor(step · (n − min) / warm-up) + min for steps 0 … 5.
        (4, 1, 9, [1, 3, 5, 7, 9, 9]),
        (4, 0, 3, [0, 0, 1, 2, 3, 3]),
        (3, 2, 7, [2, 3, 5, 7, 7, 7]),
        # More at the beginning than there are.
        (4, 8, 3, [3, 3, 3, 3, 3, 3]),
        # A share of 20 steps is 4; of 0.04 · 20 nothing is left, so there is no warm-up.
        (0.2, 1, 9, [1, 3, 5, 7, 9, 9]),
        (0.04, 1, 9, [9, 9, 9, 9, 9, 9]),
        (0, 1, 9, [9, 9, 9, 9, 9, 9]),
    ],
)
def test_the_number_of_tags_grows_with_the_step(warmup, least, count, wanted):
    how = replace(PLAIN, token_warmup_step=warmup, token_warmup_min=least)
    assert [tags_in_warmup(count, how, Moment(0, step, 20)) for step in range(6)] == wanted


@given(st.integers(1, 500), st.integers(0, 50), st.integers(0, 200))
def test_a_warm_up_never_shrinks_and_ends_exactly_at_its_step(warmup, least, count):
    how = replace(PLAIN, token_warmup_step=warmup, token_warmup_min=least)
    counts = [tags_in_warmup(count, how, Moment(0, step, 10**6)) for step in range(warmup + 1)]
    assert counts == sorted(counts)
    assert counts[0] == min(least, count)
    assert counts[-1] == count


def test_the_first_tags_are_those_that_a_warm_up_begins_with_in_any_order():
    how = replace(SHUFFLED, token_warmup_step=10, token_warmup_min=2)
    assert {at("a, b, c, d", how, visit=visit) for visit in range(40)} == {"a, b", "b, a"}


# Wildcards.

WILD = replace(PLAIN, wildcards=True)


def first(count):
    return 0


def last(count):
    return count - 1


@pytest.mark.parametrize(
    ("text", "wanted_first", "wanted_last"),
    [
        ("a {red|blue} fox", "a red fox", "a blue fox"),
        ("{a|b} {c|d}", "a c", "b d"),
        ("{a}", "a", "a"),
        ("{|a}", "", "a"),
        ("{a|}", "a", ""),
        ("{ a | b }", " a ", " b "),
        ("{{a|b}}", "{a|b}", "{a|b}"),
        ("{a|{{b}}}", "a", "{b}"),
        # Without a partner, or empty, braces stand for themselves. So do those inside: nothing is nested.
        ("a | b", "a | b", "a | b"),
        ("{}", "{}", "{}"),
        ("{", "{", "{"),
        ("}", "}", "}"),
        ("{a|b", "{a|b", "{a|b"),
        ("a|b}", "a|b}", "a|b}"),
        ("{a|{b|c}", "a", "c"),
        ("{a|{b|c}}", "{a|{b|c}", "{a|{b|c}"),
        ("{{{a|b}}}", "{a", "{b}"),
        ("", "", ""),
    ],
)
def test_wildcards_are_filled_in(text, wanted_first, wanted_last):
    assert without_wildcards(text, first) == wanted_first
    assert without_wildcards(text, last) == wanted_last


def in_three_replacements(text, pick):
    """The same said otherwise: doubled braces are put aside, and come back when single ones are done."""
    text = text.replace("{{", "\1").replace("}}", "\2")

    def chosen(match):
        texts = match.group(1).split("|")
        return texts[pick(len(texts))]

    return re.sub(r"\{([^}]+)\}", chosen, text).replace("\1", "{").replace("\2", "}")


@given(st.text(alphabet="{}|ab", max_size=30))
@settings(max_examples=1000)
def test_wildcards_are_what_three_replacements_give(text):
    for pick in (first, last):
        assert without_wildcards(text, pick) == in_three_replacements(text, pick)


def test_every_line_and_every_text_is_picked_and_about_equally_often():
    caption = "a {red|blue} fox, snow\na hill\na {x|y|z}"
    found = [at(caption, WILD, visit=visit) for visit in range(3000)]
    counts = {text: found.count(text) for text in set(found)}
    assert counts == {
        "a hill": pytest.approx(1000, abs=110),
        **{f"a {color} fox, snow": pytest.approx(500, abs=90) for color in ("red", "blue")},
        **{f"a {letter}": pytest.approx(333, abs=75) for letter in "xyz"},
    }


def test_the_line_comes_before_prefix_shuffle_and_dropout():
    how = replace(WILD, caption_prefix="photo,", caption_suffix=", end", shuffle_caption=True, keep_tokens=1)
    found = {at("a\nb", how, visit=visit) for visit in range(60)}
    assert found == {"photo, a, end", "photo, end, a", "photo, b, end", "photo, end, b"}
    assert at("{a|b}", replace(WILD, caption_dropout_rate=1)) == ""
    # A wildcard may hold tags of its own.
    assert at("{a, b|a, b}, c", replace(WILD, caption_tag_dropout_rate=1, keep_tokens=2)) == "a, b"


def test_without_wildcards_braces_are_text():
    assert at("{a|b}", PLAIN) == "{a|b}"


# What holds for every caption.

TEXTS = st.text(alphabet="ab ,|;{}\n\0é\ud800", max_size=40) | st.text(max_size=40)
SETTINGS = st.builds(
    replace,
    st.just(PLAIN),
    wildcards=st.booleans(),
    shuffle_caption=st.booleans(),
    keep_tokens=st.integers(0, 5),
    keep_tokens_separator=st.sampled_from([None, "|||", "||"]),
    caption_separator=st.sampled_from([",", ";", " "]),
    token_warmup_step=st.sampled_from([0, 0.5, 10]),
    caption_tag_dropout_rate=st.sampled_from([0, 0.5]),
)


@given(TEXTS, st.integers(0, 50))
def test_shuffling_keeps_every_tag_and_adds_none(caption, epoch):
    tags = sorted(tag.strip() for tag in caption.split(",") if tag.strip())
    found = at(caption, SHUFFLED, epoch=epoch)
    assert sorted(found.split(", ") if found else []) == tags


@given(TEXTS, SETTINGS, st.integers(0, 30), st.integers(0, 20))
@settings(max_examples=300)
def test_what_is_fixed_stays_and_no_flexible_tag_comes_twice(caption, how, visit, step):
    found = at(caption, how, visit=visit, step=step)
    caption = at(caption, replace(PLAIN, wildcards=how.wildcards), visit=visit)
    if not how.touches_tags:
        assert found == caption
        return
    tags = taken_apart(caption, how)
    begin, end = Tags(tags.fixed, [], []).joined(), Tags([], [], tags.fixed_end).joined()
    assert found.startswith(begin) and found.endswith(end)
    kept = found[len(begin) : len(found) - len(end)]
    assert len(kept) <= len(Tags(tags.fixed, tags.flexible, tags.fixed_end).joined())
    for tag in set(tags.flexible):
        if not any(tag in other for other in tags.flexible if other != tag) and "," not in tag:
            assert tags_of(kept.strip(", ")).count(tag) <= tags.flexible.count(tag)


# How often things happen.


def test_captions_are_left_out_as_often_as_the_rate_says():
    how = replace(SHUFFLED, caption_dropout_rate=0.3)
    found = [at("a, b, c", how, visit=visit) for visit in range(4000)]
    # Four standard deviations of a binomial.
    assert found.count("") / 4000 == pytest.approx(0.3, abs=0.03)
    assert all(sorted(tags_of(caption)) == ["a", "b", "c"] for caption in found if caption)


def test_tags_are_left_out_as_often_as_the_rate_says_each_by_itself():
    how = replace(SHUFFLED, caption_tag_dropout_rate=0.25, keep_tokens=1)
    found = [tags_of(at("hero, a, b, c", how, visit=visit)) for visit in range(4000)]
    assert all(tags[0] == "hero" for tags in found)
    shares = {tag: sum(tag in tags for tags in found) / 4000 for tag in "abc"}
    assert shares == pytest.approx({"a": 0.75, "b": 0.75, "c": 0.75}, abs=0.03)
    together = sum("a" in tags and "b" in tags for tags in found) / 4000
    assert together == pytest.approx(0.75**2, abs=0.035)


def test_one_setting_does_not_change_the_draws_of_another():
    """Purposes have streams of their own: with tag dropout, what is left is in the order that it had without."""
    caption = ", ".join("abcdefgh")
    for visit in range(30):
        order = tags_of(at(caption, SHUFFLED, visit=visit))
        thinned = tags_of(at(caption, replace(SHUFFLED, caption_tag_dropout_rate=0.4), visit=visit))
        assert thinned == [tag for tag in order if tag in thinned]
