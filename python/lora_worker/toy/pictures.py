"""`python -m lora_worker.toy.pictures FOLDER` draws a small training set: one character, many sizes, with captions.

The pictures are real PNG, JPEG and WebP files, wide, tall and square, one of them turned by its EXIF orientation, as
phones do, and one with a transparent background. The same call gives the same files.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from math import cos, pi, sin
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw

Size = tuple[int, int]

COLORS = {
    "red": (214, 69, 65),
    "orange": (236, 141, 57),
    "yellow": (240, 200, 80),
    "green": (92, 160, 88),
    "teal": (62, 150, 150),
    "blue": (76, 116, 196),
    "purple": (138, 94, 178),
    "pink": (230, 140, 170),
    "grey": (150, 152, 158),
    "brown": (140, 98, 66),
}
SKIN = (246, 226, 190)
"""Of the character; nothing else that is drawn has it."""
SHAPES = ("star", "ball", "cube")


@dataclass(frozen=True)
class Picture:
    image: Image.Image
    caption: str


@dataclass(frozen=True)
class _File:
    name: str
    size: Size
    """As seen, that is, after the EXIF orientation."""
    orientation: int = 1
    transparent: bool = False


_FILES = (
    _File("01-standing.png", (256, 256)),
    _File("02-waving.jpg", (320, 240)),
    _File("03-portrait.webp", (192, 288)),
    _File("04-wide.png", (384, 224)),
    _File("05-tall.jpg", (208, 352)),
    _File("06-square.webp", (200, 200)),
    _File("07-phone.jpg", (240, 320), orientation=6),
    _File("08-sticker.png", (256, 224), transparent=True),
    _File("more/09-large.jpg", (512, 512)),
    _File("more/10-panorama.webp", (448, 192)),
    _File("more/11-column.png", (176, 400)),
    _File("more/12-small.jpeg", (144, 144)),
)


def write_pictures(folder: str | Path) -> None:
    """Writes every picture and, beside it, its caption in a `.txt` file."""
    for index, file in enumerate(_FILES):
        picture = draw(index, file.size, transparent=file.transparent)
        path = Path(folder) / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        _save(picture.image, path, file.orientation)
        path.with_suffix(".txt").write_text(picture.caption + "\n", encoding="utf-8")


def _save(image: Image.Image, path: Path, orientation: int) -> None:
    if path.suffix == ".png":
        image.save(path)
    elif path.suffix == ".webp":
        image.save(path, quality=90)
    else:
        exif = Image.Exif()
        if orientation == 6:  # stored lying on its side; a viewer turns it clockwise
            image = image.transpose(Image.Transpose.ROTATE_90)
            exif[0x0112] = orientation
        image.save(path, quality=92, exif=exif)


def draw(index: int, size: Size, *, transparent: bool = False) -> Picture:
    """Picture number `index`: a round creature with a scarf, holding a thing, before a plain background."""
    random = Random(index)
    background, scarf, thing = random.sample(sorted(COLORS), 3)
    shape = SHAPES[index % len(SHAPES)]
    looks_left, smiles = random.random() < 0.5, random.random() < 0.6
    # Drawn at twice the size and shrunk: smooth edges.
    width, height = 2 * size[0], 2 * size[1]
    image = Image.new("RGBA", (width, height), (0, 0, 0, 0) if transparent else (*COLORS[background], 255))
    pen = ImageDraw.Draw(image)
    if not transparent:
        pen.rectangle((0, int(0.8 * height), width, height), fill=mix(COLORS[background], (40, 40, 40), 0.35))
    _draw_creature(pen, (width, height), random, COLORS[scarf], looks_left=looks_left, smiles=smiles)
    radius = 0.14 * min(width, height)
    x = (0.2 if looks_left else 0.8) * width
    draw_thing(pen, shape, (x, 0.72 * height), radius, COLORS[thing])
    tags = [
        "roundling",
        "solo",
        f"{scarf} scarf",
        f"{thing} {shape}",
        "looking left" if looks_left else "looking right",
        "smile" if smiles else "open mouth",
        "transparent background" if transparent else f"{background} background",
    ]
    small = image.resize(size, Image.Resampling.BOX)
    return Picture(small if transparent else small.convert("RGB"), ", ".join(tags))


def _draw_creature(
    pen: ImageDraw.ImageDraw, size: Size, random: Random, scarf: tuple[int, int, int], *, looks_left: bool, smiles: bool
) -> None:
    width, height = size
    unit = min(width, height) * random.uniform(0.26, 0.3)
    x, y = width / 2 + random.uniform(-0.05, 0.05) * width, 0.46 * height
    skin = SKIN
    pen.ellipse(box(x, y + 1.25 * unit, 0.75 * unit, 0.8 * unit), fill=mix(skin, (120, 90, 60), 0.25))
    pen.polygon(
        [(x - 0.8 * unit, y - 0.5 * unit), (x - 0.6 * unit, y - 1.35 * unit), (x - 0.1 * unit, y - 0.8 * unit)], skin
    )
    pen.polygon(
        [(x + 0.8 * unit, y - 0.5 * unit), (x + 0.6 * unit, y - 1.35 * unit), (x + 0.1 * unit, y - 0.8 * unit)], skin
    )
    pen.ellipse(box(x, y, unit, 0.95 * unit), fill=skin)
    pen.rounded_rectangle(box(x, y + 0.9 * unit, 0.8 * unit, 0.18 * unit), radius=0.15 * unit, fill=scarf)
    pen.rectangle(box(x + 0.45 * unit, y + 1.3 * unit, 0.14 * unit, 0.4 * unit), fill=scarf)
    draw_face(pen, (x, y), unit, looks_left=looks_left, smiles=smiles)


def draw_face(
    pen: ImageDraw.ImageDraw, center: tuple[float, float], unit: float, *, looks_left: bool, smiles: bool
) -> None:
    """Eyes and a mouth on a head about two units wide."""
    x, y = center
    shift = (-0.12 if looks_left else 0.12) * unit
    for side in (-1, 1):
        eye = x + side * 0.38 * unit + shift
        pen.ellipse(box(eye, y - 0.1 * unit, 0.16 * unit, 0.22 * unit), fill=(50, 40, 46))
        pen.ellipse(box(eye + 0.05 * unit, y - 0.18 * unit, 0.05 * unit, 0.06 * unit), fill=(255, 255, 255))
    mouth = box(x + shift, y + 0.35 * unit, 0.2 * unit, 0.16 * unit)
    if smiles:
        pen.arc(mouth, 20, 160, fill=(120, 60, 60), width=max(2, int(0.06 * unit)))
    else:
        pen.ellipse(mouth, fill=(150, 70, 70))


def draw_thing(
    pen: ImageDraw.ImageDraw, shape: str, center: tuple[float, float], radius: float, color: tuple[int, int, int]
) -> None:
    """A ball, a cube or a star."""
    x, y = center
    if shape == "ball":
        pen.ellipse(box(x, y, radius, radius), fill=color)
        pen.ellipse(box(x - 0.35 * radius, y - 0.35 * radius, 0.2 * radius, 0.2 * radius), fill=(255, 255, 255))
    elif shape == "cube":
        pen.rectangle(box(x, y, radius, radius), fill=color)
        pen.rectangle(box(x, y - 0.8 * radius, radius, 0.2 * radius), fill=mix(color, (255, 255, 255), 0.4))
    else:
        points = [
            (x + r * sin(corner * pi / 5), y - r * cos(corner * pi / 5))
            for corner in range(10)
            for r in [radius * (1.0 if corner % 2 == 0 else 0.45)]
        ]
        pen.polygon(points, fill=color)


def box(x: float, y: float, half_width: float, half_height: float) -> tuple[float, float, float, float]:
    return (x - half_width, y - half_height, x + half_width, y + half_height)


def mix(color: tuple[int, ...], other: tuple[int, ...], amount: float) -> tuple[int, ...]:
    return tuple(round(a + (b - a) * amount) for a, b in zip(color, other, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lora_worker.toy.pictures", description=__doc__)
    parser.add_argument("folder", help="where to put the pictures and captions")
    write_pictures(parser.parse_args().folder)


if __name__ == "__main__":
    main()
