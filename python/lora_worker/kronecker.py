"""How LoKr cuts a size in two."""

from __future__ import annotations

from math import isqrt


def factors_of(size: int, factor: int | None) -> tuple[int, int]:
    """The smaller first, as LyCORIS chooses them. None: as near to each other as can be.

    A factor that divides the size is taken. Else it is the largest divisor up to it that is not above the root.
    """
    if factor is not None and size % factor == 0:
        found = factor
    else:
        limit = isqrt(size) if factor is None else min(factor, isqrt(size))
        found = max(divisor for divisor in range(1, limit + 1) if size % divisor == 0)
    return min(found, size // found), max(found, size // found)
