"""The next step's images, made ready while a GPU is busy with this one's."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from lora_worker.visits import MicroBatch, Visits


class StepsAhead:
    """Use it in a `with` block. On a CPU, which has nothing to do meanwhile, it makes each step when asked."""

    def __init__(
        self,
        visits: Visits,
        device: torch.device,
        *,
        last: int,
        complete: Callable[[MicroBatch], MicroBatch] = lambda batch: batch,
    ) -> None:
        """`last` is the 0-based index of the last step. `complete` adds to each micro-batch what `visits` have not."""
        self._visits = visits
        self._complete = complete
        self._pinned = device.type == "cuda"
        self._last = last
        self._pool = None if device.type == "cpu" else ThreadPoolExecutor(1, thread_name_prefix="visits")
        self._next: tuple[int, Future[list[MicroBatch]]] | None = None

    def __enter__(self) -> StepsAhead:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def micro_batches(self, index: int) -> list[MicroBatch]:
        """Of the step with this 0-based index."""
        if self._pool is None:
            return self._make(index)
        waiting = self._next
        now = waiting[1] if waiting is not None and waiting[0] == index else self._pool.submit(self._make, index)
        if index < self._last:
            self._next = (index + 1, self._pool.submit(self._make, index + 1))
        return now.result()

    def _make(self, index: int) -> list[MicroBatch]:
        made = [self._complete(micro_batch) for micro_batch in self._visits.micro_batches(index)]
        return [micro_batch.pinned() for micro_batch in made] if self._pinned else made
