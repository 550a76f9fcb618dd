"""What the models say to one fixed input, to tell whether anything about them has changed."""

from __future__ import annotations

import torch


def outputs(models):
    """Of the whole model for a fixed input."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        context, pooled = models.text.encode(["fox", "hill, tree"])
        latents = torch.randn(2, 4, 8, 8, generator=generator)
        sizes = torch.tensor([[64.0, 64, 0, 0, 64, 64]] * 2)
        return models.predict(latents, torch.tensor([3, 700]), context, pooled, sizes), context, pooled


def same(left, right):
    return all(torch.equal(one, other) for one, other in zip(left, right, strict=True))
