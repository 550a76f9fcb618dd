"""Captioned pictures of a small world, which the toy base learns: things and creatures in ten colours.

A scene's caption says all that can be seen, as tags: `red cat, solo, blue scarf, green star, looking left, smile,
yellow background`. The character that the quickstart teaches (`lora_worker.toy.pictures`) is not among them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import pi, sin
from random import Random

from PIL import Image, ImageDraw

from lora_worker.toy.pictures import COLORS, SHAPES, Size, box, draw_face, draw_thing, mix

CREATURES = ("cat", "ghost", "robot")
# Width, height; the shapes of buckets around 128x128, the square most often.
SIZES: tuple[Size, ...] = ((128, 128), (128, 128), (128, 128), (160, 96), (96, 160), (192, 64), (64, 192))

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Scene:
    image: Image.Image
    caption: str


def draw_scene(random: Random, size: Size) -> Scene:
    """Two in five are a thing alone, one in five a creature alone, the others a creature beside a thing."""
    kind = random.random()
    background, *others = random.sample(sorted(COLORS), 4)
    # Drawn at twice the size and shrunk: smooth edges.
    width, height = 2 * size[0], 2 * size[1]
    image = Image.new("RGB", (width, height), COLORS[background])
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, int(0.8 * height), width, height), fill=mix(COLORS[background], (40, 40, 40), 0.35))
    tags = _thing(pen, (width, height), random, others[0]) if kind < 0.4 else []
    if kind >= 0.4:
        tags = _creature(pen, (width, height), random, others, holds=kind >= 0.6)
    return Scene(image.resize(size, Image.Resampling.BOX), ", ".join([*tags, f"{background} background"]))


def _thing(pen: ImageDraw.ImageDraw, size: Size, random: Random, color: str) -> list[str]:
    shape = random.choice(SHAPES)
    radius = min(size) * random.uniform(0.2, 0.34)
    x = size[0] / 2 + random.uniform(-0.08, 0.08) * size[0]
    y = size[1] / 2 + random.uniform(-0.05, 0.08) * size[1]
    draw_thing(pen, shape, (x, y), radius, COLORS[color])
    return [f"{color} {shape}"]


def _creature(pen: ImageDraw.ImageDraw, size: Size, random: Random, colors: list[str], *, holds: bool) -> list[str]:
    color, scarf, thing = colors
    kind, shape = random.choice(CREATURES), random.choice(SHAPES)
    looks_left, smiles, has_scarf = (random.random() < 0.5 for _ in range(3))
    unit = min(size) * random.uniform(0.24, 0.3)
    x, y = size[0] / 2 + random.uniform(-0.06, 0.06) * size[0], 0.46 * size[1]
    _BODIES[kind](pen, x, y, unit, COLORS[color])
    draw_face(pen, (x, y), unit, looks_left=looks_left, smiles=smiles)
    tags = [f"{color} {kind}", "solo"]
    if has_scarf:
        pen.rounded_rectangle(box(x, y + 0.95 * unit, 0.75 * unit, 0.18 * unit), 0.15 * unit, COLORS[scarf])
        pen.rectangle(box(x + 0.4 * unit, y + 1.3 * unit, 0.14 * unit, 0.35 * unit), COLORS[scarf])
        tags.append(f"{scarf} scarf")
    if holds:
        at = ((0.2 if looks_left else 0.8) * size[0], 0.72 * size[1])
        draw_thing(pen, shape, at, 0.14 * min(size), COLORS[thing])
        tags.append(f"{thing} {shape}")
    return [*tags, "looking left" if looks_left else "looking right", "smile" if smiles else "open mouth"]


def _cat(pen: ImageDraw.ImageDraw, x: float, y: float, unit: float, color: Color) -> None:
    """A wide head with pointed ears on its corners, and a tail."""
    pen.ellipse(box(x, y + 1.4 * unit, 0.6 * unit, 0.75 * unit), mix(color, (40, 40, 40), 0.2))
    pen.arc(box(x + 0.8 * unit, y + 1.4 * unit, 0.45 * unit, 0.6 * unit), -60, 150, color, max(2, int(0.16 * unit)))
    for side in (-1, 1):
        points = [(0.95, -0.1), (0.95, -1.15), (0.25, -0.65)]
        pen.polygon([(x + side * across * unit, y + down * unit) for across, down in points], color)
    pen.ellipse(box(x, y, 1.05 * unit, 0.8 * unit), color)


def _ghost(pen: ImageDraw.ImageDraw, x: float, y: float, unit: float, color: Color) -> None:
    """A dome with a hem of waves."""
    hem = [
        (x - 0.9 * unit + 1.8 * unit * step / 24, y + (1.6 + 0.18 * sin(step * pi / 3)) * unit) for step in range(25)
    ]
    pen.polygon([(x - 0.9 * unit, y), *hem, (x + 0.9 * unit, y)], color)
    pen.ellipse(box(x, y, 0.9 * unit, 0.95 * unit), color)


def _robot(pen: ImageDraw.ImageDraw, x: float, y: float, unit: float, color: Color) -> None:
    """All corners, with an antenna and feet."""
    dark = mix(color, (40, 40, 40), 0.3)
    pen.rectangle(box(x, y - 1.15 * unit, 0.06 * unit, 0.3 * unit), dark)
    pen.ellipse(box(x, y - 1.4 * unit, 0.15 * unit, 0.15 * unit), (250, 250, 250))
    pen.rectangle(box(x, y + 1.3 * unit, 0.65 * unit, 0.55 * unit), dark)
    for side in (-1, 1):
        pen.rectangle(box(x + side * 0.4 * unit, y + 1.9 * unit, 0.2 * unit, 0.15 * unit), color)
    pen.rectangle(box(x, y, 0.95 * unit, 0.8 * unit), color)


_BODIES: dict[str, Callable[[ImageDraw.ImageDraw, float, float, float, Color], None]] = {
    "cat": _cat,
    "ghost": _ghost,
    "robot": _robot,
}
