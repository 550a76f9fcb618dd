"""The projection of the pooled text, as other trainers have it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lora_worker.errors import bad_input
from lora_worker.models import Models


@contextmanager
def transposed_projection(models: Models) -> Iterator[None]:
    """As sd-scripts has it with a single file: the pooled text is x·Pᵀ, in training and in its pictures."""
    weight = models.text.two.text_projection.weight
    if weight.shape[0] != weight.shape[1]:
        raise bad_input(f"The text projection of the checkpoint is {list(weight.shape)} and cannot be transposed.")
    given = weight.data
    weight.data = given.T.contiguous()
    try:
        yield
    finally:
        weight.data = given
