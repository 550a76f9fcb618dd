"""What frozen text encoders make of captions, computed once for each text.

It never changes where no LoRA is attached to the encoders. So:

- Where captions stay as they are, every text that there can be is encoded before the first step, once.
- Where tags are shuffled, dropped or drawn, a GPU encodes the texts of many steps together: as many as `MOST_BYTES` of
  the host's memory hold. On a CPU that gains nothing, so there a step encodes its own texts, as ever.
- In between, the encoders are not on the GPU (1.5 GiB of SDXL in bf16).

On a CPU each text is encoded by itself: what comes out must not depend, not even in its last bit, on which texts were
missing. The rows lie in the host's memory and come to a GPU with the rest of their micro-batch.

Shape letters: N chunks, T tokens of a chunk, W the width of the context, P that of the pooled text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor

from lora_worker.architecture import Architecture
from lora_worker.models import Models
from lora_worker.network import Network
from lora_worker.text import CHUNK, Tokens
from lora_worker.visits import MicroBatch, Visits

MOST_BYTES = 2**30

_BATCH = 16
"""So many texts are encoded at once on a GPU."""

Row = tuple[Tensor, Tensor]
"""Context [75 N + 2, W] and pooled text [P] of one text, on the CPU in the models' dtype."""


def text_is_constant(network: Network) -> bool:
    """Whether the text encoders compute what the checkpoint says, and nothing of the network."""
    return not any(branch.target.component in ("te1", "te2") for branch in network.branches.values())


class TextCache:
    """Of a training whose text encoders are frozen. After `make_ready` it has the encoders, unless the device is a CPU:
    whatever else needs them has to be done before."""

    def __init__(self, models: Models, visits: Visits, *, steps: int, others: Iterable[Tokens] = ()) -> None:
        """`steps` is the number of the last step, from 1; `others` are texts besides those of the steps."""
        self._models = models
        self._visits = visits
        self._steps = steps
        self._others = _by_key(others)
        self._rows: dict[bytes, Row] = {}
        self._ready_until = 0

    @staticmethod
    def is_worthwhile(models: Models, visits: Visits, network: Network) -> bool:
        return text_is_constant(network) and (models.device.type == "cuda" or visits.every_text() is not None)

    def make_ready(self, step: int, before_each: Callable[[int, int], None]) -> bool:
        """From now on it knows the texts of the step with this 0-based index, and of the one that is prepared ahead.
        Whether there was something to do.

        `before_each` is called before every pass of the encoders, with the number of texts that are done and of all,
        and may raise.
        """
        if min(step + 2, self._steps) <= self._ready_until:
            return False
        wanted = self._others | self._texts_from(step)
        known = {key: row for key, row in self._rows.items() if key in wanted}
        missing = [tokens for key, tokens in wanted.items() if key not in known]
        if missing:
            self._models.text.to(self._models.device)
            known |= self._encoded(missing, before_each)
        # At once: a step is prepared on another thread, from texts that both have.
        self._rows = known
        if self._models.device.type != "cpu":
            self._models.text.to(torch.device("cpu"))
        return bool(missing)

    def with_text(self, batch: MicroBatch) -> MicroBatch:
        """Of a step, or of others, that were made ready."""
        rows = [self._rows[tokens.key] for tokens in batch.tokens()]
        return replace(
            batch,
            context_BTW=torch.stack([context for context, _ in rows]),
            pooled_BP=torch.stack([pooled for _, pooled in rows]),
        )

    def _texts_from(self, step: int) -> dict[bytes, Tokens]:
        """All texts, or those of so many steps from this one that they fit. Sets `_ready_until`."""
        most = MOST_BYTES // row_bytes(self._models.architecture, self._models.dtype, self._visits.chunks)
        every = self._visits.every_text()
        if every is not None and len(every) <= most:
            self._ready_until = self._steps
            return _by_key(every)
        texts: dict[bytes, Tokens] = {}
        end = step
        while end < self._steps and (end < step + 2 or len(texts) < most):
            texts |= _by_key(self._visits.texts(end))
            end += 1
        self._ready_until = end
        return texts

    @torch.no_grad()
    def _encoded(self, texts: list[Tokens], before_each: Callable[[int, int], None]) -> dict[bytes, Row]:
        models = self._models
        size = 1 if models.device.type == "cpu" else _BATCH
        rows: dict[bytes, Row] = {}
        for first in range(0, len(texts), size):
            before_each(first, len(texts))
            part = texts[first : first + size]
            one_BNT, two_BNT = (torch.stack([getattr(each, name) for each in part]) for name in ("one_NT", "two_NT"))
            context_BTW, pooled_BP = (each.to(models.dtype).cpu() for each in models.text.encode_ids(one_BNT, two_BNT))
            rows |= {each.key: row for each, row in zip(part, zip(context_BTW, pooled_BP, strict=True), strict=True)}
        return rows


def row_bytes(architecture: Architecture, dtype: torch.dtype, chunks: int) -> int:
    """Of one text."""
    context = (CHUNK * chunks + 2) * (architecture.te1.width + architecture.te2.width)
    return (context + architecture.pooled_width) * dtype.itemsize


def _by_key(texts: Iterable[Tokens]) -> dict[bytes, Tokens]:
    return {tokens.key: tokens for tokens in texts}
