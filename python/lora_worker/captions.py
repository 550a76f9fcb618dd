"""What a caption becomes at a visit of its image."""

from __future__ import annotations

from torch import Generator

from lora_worker.streams import permutation


def shuffled(caption: str, generator: Generator) -> str:
    """The caption's comma-separated tags in random order, joined by ", ".

    Tags are stripped, and empty ones (after a trailing comma, say) are left out, where sd-scripts shuffles them along.
    """
    tags = [tag for piece in caption.split(",") if (tag := piece.strip())]
    return ", ".join(tags[place] for place in permutation(generator, len(tags)).tolist())
