"""What a caption becomes at a visit of its image.

The steps are those of sd-scripts, in its order: prefix and suffix, dropout, wildcards, and for the tags token warm-up,
shuffling and tag dropout; the secondary separator last. What is drawn follows from the settings and the visit alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator

from lora_worker.streams import permutation, uniform_integer

Stream = Callable[[str], Generator]
"""The visit's generator for one purpose."""


@dataclass(frozen=True)
class CaptionSettings:
    """In the words of sd-scripts. `token_warmup_step` counts steps, or is below 1 a share of all of them."""

    caption_prefix: str | None
    caption_suffix: str | None
    caption_dropout_rate: float
    caption_dropout_every_n_epochs: int
    wildcards: bool
    shuffle_caption: bool
    caption_separator: str
    keep_tokens: int
    keep_tokens_separator: str | None
    token_warmup_step: float
    token_warmup_min: int
    caption_tag_dropout_rate: float
    secondary_separator: str | None

    def warmup_steps(self, steps: int) -> int:
        """The first step (0-based) in which captions have all of their tags, in a training of so many steps."""
        share = self.token_warmup_step
        return math.floor(share * steps) if share < 1 else math.floor(share)

    @property
    def touches_tags(self) -> bool:
        """Whether captions are taken apart at all. Else not even their white space is tidied."""
        return self.shuffle_caption or self.token_warmup_step > 0 or self.caption_tag_dropout_rate > 0


@dataclass(frozen=True)
class Moment:
    """When a visit is. `epoch` and `step` count from 0; `steps` is how many there are in all."""

    epoch: int
    step: int
    steps: int


@dataclass(frozen=True)
class Tags:
    """A caption taken apart. Only `flexible` tags are moved and left out."""

    fixed: Sequence[str]
    flexible: Sequence[str]
    fixed_end: Sequence[str]

    def joined(self) -> str:
        """By comma and space, whatever the separator was."""
        return ", ".join([*self.fixed, *self.flexible, *self.fixed_end])


def visited(caption: str, settings: CaptionSettings, moment: Moment, stream: Stream) -> str:
    """The caption as one visit of its image has it."""
    if _is_dropped(settings, moment, stream):
        return ""
    caption = _picked(caption, settings, stream)
    if settings.touches_tags:
        caption = _with_changed_tags(taken_apart(caption, settings), settings, moment, stream).joined()
    if settings.secondary_separator:
        caption = caption.replace(settings.secondary_separator, settings.caption_separator)
    return caption


def every_text(caption: str, settings: CaptionSettings) -> frozenset[str] | None:
    """All that `visited` can make of the caption, or None where tags or wildcards make too much of it."""
    if settings.wildcards or settings.touches_tags:
        return None
    never = replace(settings, caption_dropout_rate=0.0, caption_dropout_every_n_epochs=0)
    text = visited(caption, never, Moment(epoch=0, step=0, steps=1), _nothing_is_drawn)
    is_dropped = settings.caption_dropout_rate > 0 or settings.caption_dropout_every_n_epochs > 0
    return frozenset((text, "") if is_dropped else (text,))


def _nothing_is_drawn(purpose: str) -> Generator:
    raise AssertionError(f"a caption that stays as it is draws for {purpose}")


def surrounded(line: str, settings: CaptionSettings) -> str:
    """Between prefix and suffix. Of a caption with several lines each is, where sd-scripts prefixes only the first."""
    return " ".join(part for part in (settings.caption_prefix, line, settings.caption_suffix) if part is not None)


def taken_apart(caption: str, settings: CaptionSettings) -> Tags:
    """Tags are stripped, and empty ones (after a trailing comma, say) are left out, where sd-scripts without
    keep_tokens_separator shuffles them along."""

    def tags(text: str) -> list[str]:
        return [tag for piece in text.split(settings.caption_separator) if (tag := piece.strip())]

    mark = settings.keep_tokens_separator
    if mark and mark in caption:
        before, _, behind = caption.partition(mark)
        between, _, end = behind.partition(mark)
        return Tags(tags(before), tags(between), tags(end))
    every = tags(caption)
    return Tags(every[: settings.keep_tokens], every[settings.keep_tokens :], [])


def tags_in_warmup(count: int, settings: CaptionSettings, moment: Moment) -> int:
    """How many of so many flexible tags a caption has at this moment: the number grows evenly, and is rounded down."""
    least, end = settings.token_warmup_min, settings.warmup_steps(moment.steps)
    if moment.step >= end or count <= least:
        return count
    return least + moment.step * (count - least) // end


def without_wildcards(text: str, pick: Callable[[int], int]) -> str:
    """Each `{a|b|c}` is replaced by one of its texts, and `{{` and `}}` by a brace.

    `pick` is asked for a number below the number of texts, from left to right. Nothing is nested, braces without a
    partner stand for themselves, and so do `{}` and a brace within braces.
    """
    done: list[str] = []
    # What follows an open brace: texts so far, the last of which still grows.
    texts: list[list[str]] | None = None
    for piece in re.findall(r"\{\{|\}\}|[{}|]|[^{}|]+", text):
        if piece == "{" and texts is None:
            texts = [[]]
        elif piece == "}" and texts is not None:
            done.append("{}" if texts == [[]] else "".join(texts[pick(len(texts))]))
            texts = None
        elif piece == "|" and texts is not None:
            texts.append([])
        else:
            literal = piece[0] if piece in ("{{", "}}") else piece
            (done if texts is None else texts[-1]).append(literal)
    if texts is not None:
        done.append("{" + "|".join("".join(parts) for parts in texts))
    return "".join(done)


def _picked(caption: str, settings: CaptionSettings, stream: Stream) -> str:
    """One line of the caption, surrounded, and with its wildcards filled in where they are on."""
    if not settings.wildcards:
        return surrounded(caption, settings)
    lines = caption.split("\n")
    if len(lines) > 1:
        caption = lines[uniform_integer(stream("caption line"), len(lines))]
    generator = stream("wildcard")
    return without_wildcards(surrounded(caption, settings), lambda count: uniform_integer(generator, count))


def _is_dropped(settings: CaptionSettings, moment: Moment, stream: Stream) -> bool:
    every = settings.caption_dropout_every_n_epochs
    if every > 0 and (moment.epoch + 1) % every == 0:
        return True
    rate = settings.caption_dropout_rate
    return rate > 0 and torch.rand((), generator=stream("caption dropout")).item() < rate


def _with_changed_tags(tags: Tags, settings: CaptionSettings, moment: Moment, stream: Stream) -> Tags:
    flexible = tags.flexible[: tags_in_warmup(len(tags.flexible), settings, moment)]
    if settings.shuffle_caption:
        flexible = [flexible[place] for place in permutation(stream("caption"), len(flexible)).tolist()]
    rate = settings.caption_tag_dropout_rate
    if rate > 0:
        draws = torch.rand(len(flexible), generator=stream("tag dropout")).tolist()
        flexible = [tag for tag, draw in zip(flexible, draws, strict=True) if draw >= rate]
    return Tags(tags.fixed, flexible, tags.fixed_end)
