"""Text on a sheet, in the one font that comes with Pillow, so that a sheet has the same bytes everywhere.

That font knows English letters and some punctuation. What it lacks is written in letters that it has, so that rows stay
told apart and most stay readable: é as e, ж as zh, の as no, 🧀 as [cheese wedge], 猫 as [U+732B].
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache

from PIL.ImageFont import FreeTypeFont, load_default

# Prompts can be as long as a book; nobody sees more than this of one on a sheet.
_MOST_CHARACTERS = 1000
_SIGNS = str.maketrans(
    {
        **dict.fromkeys("‐‑‒–—―−", "-"),
        **dict.fromkeys("„‟″", '"'),
        **{"×": "x", "→": "->", "←": "<-", "≥": ">=", "≤": "<=", "≠": "!=", "≈": "~"},
        **{"ß": "ss", "ẞ": "SS"},
    }
)
_CYRILLIC = dict(
    zip(
        "абвгдеёжзийклмнопрстуфхцчшщъыьэюя",
        "a b v g d e yo zh z i i k l m n o p r s t u f kh ts ch sh shch ' y ' e yu ya".split(),
        strict=True,
    )
)
# HIRAGANA LETTER NO, GREEK SMALL LETTER SIGMA, HANGUL SYLLABLE GA, LATIN SMALL LETTER O WITH STROKE
_NAMED_LETTER = re.compile(r"(?:LETTER|LIGATURE|SYLLABLE)(?: SMALL| FINAL)? (\w{1,7})(?: WITH .*)?$")


@cache
def font(size: int) -> FreeTypeFont:
    """Of that many pixels."""
    made = load_default(size)
    if not isinstance(made, FreeTypeFont):
        raise RuntimeError("this Pillow was built without FreeType")
    return made


def line_height(size: int) -> int:
    """Pixels from one line to the next."""
    return round(size * 1.35)


@lru_cache(maxsize=4096)
def wrapped(text: str, size: int, width: int, lines: int) -> tuple[str, ...]:
    """At most so many lines, none wider than `width` pixels. What does not fit is cut, and ends with an ellipsis."""
    words = drawable(text[:_MOST_CHARACTERS]).split()
    if len(text) > _MOST_CHARACTERS:
        words.append("…")
    made: list[str] = []
    while words and len(made) < lines:
        is_last = len(made) == lines - 1
        made.append(_cut(" ".join(words), size, width) if is_last else _first_line(words, size, width))
    return tuple(made)


def drawable(text: str) -> str:
    """The text in characters that the font has, without control characters."""
    known = unicodedata.normalize("NFKC", text).translate(_SIGNS)
    # A row of names in brackets can be wrapped between them.
    return "".join(_drawable(character) for character in known).replace("][", "] [")


def _first_line(words: list[str], size: int, width: int) -> str:
    """Takes out of `words` as many as fit; of a word that is wider than a line, its beginning."""
    count = 1
    while count < len(words) and _fits(" ".join(words[: count + 1]), size, width):
        count += 1
    line = " ".join(words[:count])
    if _fits(line, size, width):
        del words[:count]
        return line
    length = _fitting(line, size, width, tail="")
    words[0] = line[length:]
    return line[:length]


def _cut(line: str, size: int, width: int) -> str:
    if _fits(line, size, width):
        return line
    return line[: _fitting(line, size, width, tail="…")].rstrip() + "…"


def _fitting(line: str, size: int, width: int, *, tail: str) -> int:
    """How many characters fit with the tail behind them. At least one, that lines come to an end."""
    low, high = 1, len(line)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _fits(line[:middle].rstrip() + tail, size, width) else (low, middle - 1)
    return low


def _fits(line: str, size: int, width: int) -> bool:
    return font(size).getlength(line) <= width


@lru_cache(maxsize=4096)
def _drawable(character: str) -> str:
    if character.isspace():
        return " "
    if unicodedata.category(character) in ("Cc", "Cf", "Mn", "Me"):  # signs that have no shape of their own
        return ""
    if _has(character):
        return character
    bare = unicodedata.normalize("NFKD", character)[0]
    if bare != character and _has(bare):
        return bare
    name = unicodedata.name(character, "")
    named = _NAMED_LETTER.search(name)
    letter = _CYRILLIC.get(character.lower()) or (named and named[1].lower())
    if letter:
        return letter.capitalize() if character.isupper() else letter
    if name and unicodedata.category(character).startswith("S"):
        return f"[{name.lower()}]"
    return f"[U+{ord(character):04X}]"


def _has(character: str) -> bool:
    """A font draws the same box for everything that it lacks, and U+FFFF is in none."""
    return bytes(font(24).getmask(character)) != bytes(font(24).getmask("\uffff"))
