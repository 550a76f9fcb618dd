"""Which images each optimizer step trains on, and how they are cut into micro-batches.

An epoch is every image, as often as its `repeats` say, in an order drawn for that epoch: sampling without
replacement. Steps take `images_per_step` = batch_size × gradient_accumulation_steps visits each from the chain of all
epochs, so a step may begin in one epoch and end in the next, and every step trains on equally many images. That is
where this differs from sd-scripts, which cuts batches short at the end of each bucket and steps early at the end of
each epoch, so that with a small dataset many steps see few images.

Where there are regularization images, an epoch has as many visits of them as of the others. They take turns: what one
epoch had no room for, the next begins with. (sd-scripts takes the same ones in every epoch, and never the rest.)

Which visits a step has depends on its number alone: nothing is replayed to go on from the middle of a training.
Within a step, images of one bucket go together, at most `batch_size` at a time. Since the step's gradient is the mean
over its images, the cut changes nothing but rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from lora_worker.streams import Visit, epoch_stream, permutation


@dataclass(frozen=True)
class Entry:
    """An image of the dataset as far as order is concerned. `bucket` is its width and height in pixels."""

    digest: str
    index: int
    repeats: int
    bucket: tuple[int, int]
    regularization: bool = False


@dataclass(frozen=True)
class PlannedVisit:
    """A visit, and the place of its image in the list that the plan was made from."""

    place: int
    visit: Visit


class Plan:
    """The visits of every step, by step number."""

    def __init__(self, entries: Sequence[Entry], *, seed: int, images_per_step: int) -> None:
        """Raises ValueError when there is nothing to visit."""
        # By content, so that the order in which images are listed means nothing.
        order = sorted(range(len(entries)), key=lambda place: (entries[place].digest, entries[place].index))
        expanded = [(place, repeat) for place in order for repeat in range(entries[place].repeats)]
        self._epoch = [each for each in expanded if not entries[each[0]].regularization]
        if not self._epoch:
            raise ValueError("there are no images to train on")
        self._in_turns = [place for place, _ in expanded if entries[place].regularization]
        self._entries = entries
        self._seed = seed
        self._images_per_step = images_per_step
        # A step reaches into few epochs, and the next step into the last of them again.
        self._order_of = lru_cache(maxsize=2)(self._draw_order)

    @property
    def visits_per_epoch(self) -> int:
        return len(self._epoch) * (2 if self._in_turns else 1)

    def epoch_of(self, step: int) -> int:
        """The epoch (from 0) in which the step with this 0-based index begins."""
        return step * self._images_per_step // self.visits_per_epoch

    def visits(self, step: int) -> list[PlannedVisit]:
        """The visits of the step with this 0-based index, in the order of the epochs."""
        first = step * self._images_per_step
        return [self._visit(number) for number in range(first, first + self._images_per_step)]

    def _visit(self, number: int) -> PlannedVisit:
        epoch, position = divmod(number, self.visits_per_epoch)
        chosen = self._order_of(epoch)[position]
        own = len(self._epoch)
        place, repeat = self._epoch[chosen] if chosen < own else self._turn(epoch, chosen - own)
        entry = self._entries[place]
        return PlannedVisit(place, Visit(epoch, entry.digest, entry.index, repeat))

    def _turn(self, epoch: int, number: int) -> tuple[int, int]:
        """The regularization image whose turn it is, and how often the epoch has had it before."""
        first = epoch * len(self._epoch)
        turns = len(self._in_turns)
        place = self._in_turns[(first + number) % turns]
        # How far behind the epoch's first turn those of this image lie; each comes again after all have had theirs.
        behind = [(turn - first) % turns for turn, other in enumerate(self._in_turns) if other == place]
        return place, sum(1 + (number - 1 - distance) // turns for distance in behind if distance < number)

    def _draw_order(self, epoch: int) -> list[int]:
        return permutation(epoch_stream(self._seed, epoch, "order"), self.visits_per_epoch).tolist()


class BucketPlan:
    """The batches of every step as sd-scripts cuts them (`accumulation = sd_scripts`).

    Each epoch, the images of each bucket are shuffled and cut into batches, the last of which may be short, and the
    batches of all buckets are shuffled. A step takes `accumulation` of them, and what is left at the end of an epoch is
    a step as well. Which images meet is drawn by our own streams: sd-scripts' order depends on its workers.
    """

    def __init__(self, entries: Sequence[Entry], *, seed: int, batch_size: int, accumulation: int) -> None:
        """Raises ValueError when there is nothing to visit."""
        self._images = Plan(entries, seed=seed, images_per_step=1)
        self._entries = entries
        self._seed = seed
        self._batch_size = batch_size
        self._accumulation = accumulation
        counts: dict[tuple[int, int], int] = {}
        for entry in entries:
            counts[entry.bucket] = counts.get(entry.bucket, 0) + entry.repeats
        batches = sum(-(-count // batch_size) for count in counts.values())
        self.steps_per_epoch = -(-batches // accumulation)
        self._batches_of = lru_cache(maxsize=2)(self._draw_batches)

    def epoch_of(self, step: int) -> int:
        """The epoch (from 0) of the step with this 0-based index."""
        return step // self.steps_per_epoch

    def batches(self, step: int) -> list[list[PlannedVisit]]:
        epoch, place = divmod(step, self.steps_per_epoch)
        return self._batches_of(epoch)[place * self._accumulation :][: self._accumulation]

    def _draw_batches(self, epoch: int) -> list[list[PlannedVisit]]:
        count = self._images.visits_per_epoch
        visits = [planned for number in range(count) for planned in self._images.visits(epoch * count + number)]
        buckets = [self._entries[planned.place].bucket for planned in visits]
        batches = micro_batches(visits, buckets, self._batch_size)
        order = permutation(epoch_stream(self._seed, epoch, "batches"), len(batches)).tolist()
        return [batches[place] for place in order]


T = TypeVar("T")


def micro_batches(items: Sequence[T], buckets: Sequence[tuple[int, int]], batch_size: int) -> list[list[T]]:
    """`items` cut into lists of at most `batch_size` of one bucket. `buckets` gives each item's.

    Buckets come in the order of their first item, and items keep theirs.
    """
    grouped: dict[tuple[int, int], list[T]] = {}
    for item, bucket in zip(items, buckets, strict=True):
        grouped.setdefault(bucket, []).append(item)
    return [
        group[start : start + batch_size] for group in grouped.values() for start in range(0, len(group), batch_size)
    ]
