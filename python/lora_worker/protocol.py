"""The worker's half of the conversation with the CLI: JSON, one object per line. src/runtime/worker/protocol.ts is the
other half of this file and describes every message; the two change together.

What comes in starts as text and becomes a precise type here or in the `parse` of a stage, and is never checked again.
What goes out is strict JSON: a number that is not finite travels as null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

PROTOCOL = 1

T = TypeVar("T")


class ProtocolError(ValueError):
    """The other side said something that this version does not understand. Never the user's mistake."""


@dataclass(frozen=True)
class Request:
    """One piece of work. `work` is still as it came: the stage that does it parses it."""

    id: int
    op: str
    work: Mapping[str, Any]


@dataclass(frozen=True)
class Cancel:
    """Stop the request soon. It is answered by a failure of kind `cancelled`, or by its result when that is quicker."""

    id: int


def parse_message(line: str | bytes) -> Request | Cancel:
    """One line from the CLI."""
    try:
        value = json.loads(line)
    except ValueError:
        raise ProtocolError("a line is not JSON") from None
    message = Fields(value, "message")
    kind = message.one_of("type", ("request", "cancel"))
    if kind == "cancel":
        return Cancel(message.whole("id"))
    work = message.record("work")
    return Request(message.whole("id"), work.text("op"), work.raw)


def to_line(message: Mapping[str, Any]) -> bytes:
    """One message as it travels, with its newline. Non-ASCII is escaped, so no byte in it can be mistaken."""
    return (json.dumps(_strict(message), allow_nan=False, separators=(",", ":")) + "\n").encode("ascii")


def _strict(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    return value


class Fields:
    """A JSON object being parsed: each method takes out one field, or says what it found and what it needed."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise ProtocolError(f'"{where}" must be an object, and is {_shown(value)}')
        self.raw: dict[str, Any] = value
        self.where = where

    def text(self, name: str) -> str:
        return self._typed(name, "a string", lambda value: isinstance(value, str))

    def optional_text(self, name: str) -> str | None:
        return self._typed(name, "a string or null", lambda value: value is None or isinstance(value, str))

    def optional_whole(self, name: str) -> int | None:
        return self._typed(name, "a whole number or null", lambda value: value is None or _is_whole(value))

    def flag(self, name: str) -> bool:
        return self._typed(name, "true or false", lambda value: isinstance(value, bool))

    def flag_or(self, name: str, usual: bool) -> bool:
        return self.flag(name) if name in self.raw else usual

    def whole(self, name: str) -> int:
        return self._typed(name, "a whole number", _is_whole)

    def number(self, name: str) -> float:
        return float(self._typed(name, "a number", _is_number))

    def number_if_there(self, name: str) -> float | None:
        return self.number(name) if name in self.raw else None

    def one_of(self, name: str, words: tuple[str, ...]) -> Any:
        return self._typed(name, " or ".join(f'"{word}"' for word in words), lambda value: value in words)

    def one_of_or_first(self, name: str, words: tuple[str, ...]) -> Any:
        """The first of the words where the field is not there."""
        return self.one_of(name, words) if name in self.raw else words[0]

    def pair(self, name: str) -> tuple[int, int]:
        """Width and height, or left and top."""
        first, second = self._typed(
            name,
            "two whole numbers",
            lambda value: isinstance(value, list) and len(value) == 2 and all(map(_is_whole, value)),
        )
        return first, second

    def number_pair(self, name: str) -> tuple[float, float]:
        first, second = self._typed(
            name,
            "two numbers",
            lambda value: isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)),
        )
        return float(first), float(second)

    def whole_list(self, name: str) -> tuple[int, ...]:
        return tuple(
            self._typed(
                name, "a list of whole numbers", lambda value: isinstance(value, list) and all(map(_is_whole, value))
            )
        )

    def text_list(self, name: str) -> tuple[str, ...]:
        return tuple(self._typed(name, "a list of strings", _is_text_list))

    def optional_text_list(self, name: str) -> tuple[str, ...] | None:
        texts = self._typed(name, "a list of strings or null", lambda value: value is None or _is_text_list(value))
        return None if texts is None else tuple(texts)

    def record(self, name: str) -> Fields:
        return Fields(self._taken(name), f"{self.where}.{name}")

    def records(self, name: str, parse: Callable[[Fields], T]) -> tuple[T, ...]:
        """A list of objects, each parsed the same way."""
        items = self._typed(name, "a list", lambda value: isinstance(value, list))
        return tuple(parse(Fields(item, f"{self.where}.{name}[{index}]")) for index, item in enumerate(items))

    def any(self, name: str) -> Any:
        """A field that the caller parses itself."""
        return self._taken(name)

    def _taken(self, name: str) -> Any:
        if name not in self.raw:
            raise ProtocolError(f'"{self.where}.{name}" is missing')
        return self.raw[name]

    def _typed(self, name: str, wanted: str, fits: Callable[[Any], bool]) -> Any:
        value = self._taken(name)
        if not fits(value):
            raise ProtocolError(f'"{self.where}.{name}" must be {wanted}, and is {_shown(value)}')
        return value


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return (_is_whole(value) or isinstance(value, float)) and math.isfinite(value)


def _is_text_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
