"""Captions that nobody writes by hand, and files may hold."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from test_captions import WILD, at


@pytest.mark.parametrize(
    "caption",
    [
        "{" * 10**6,
        "}" * 10**6,
        "{a" * 500_000,
        "{a|" * 300_000,
        "{" + "a|" * 500_000 + "}",
        "a,|\0" * 250_000,
        "{{}}" * 250_000,
    ],
)
def test_a_megabyte_of_anything_is_dealt_with_at_once(caption):
    how = replace(WILD, shuffle_caption=True, caption_tag_dropout_rate=0.5, keep_tokens=3, token_warmup_step=10)
    began = time.monotonic()
    at(caption, how, step=5)
    assert time.monotonic() - began < 10
