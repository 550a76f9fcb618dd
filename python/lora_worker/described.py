"""Settings as plain JSON, for digests that have to outlive new versions.

A setting that came later is left out where it is as everything was before, so that digests of before stay true.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields, is_dataclass
from typing import Any


def later(usual: Any) -> Any:
    """A field of a dataclass that came later. `usual` is what all had before there was one."""
    return field(default=usual, metadata={"later": True})


def described(value: Any) -> Any:
    """Dataclasses as objects, all the way down."""
    if is_dataclass(value):
        told = ((each, getattr(value, each.name)) for each in fields(value))
        return {
            each.name: described(one) for each, one in told if not ("later" in each.metadata and one == each.default)
        }
    if isinstance(value, Mapping):
        return {key: described(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [described(one) for one in value]
    return value
