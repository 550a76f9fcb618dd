"""What is to be seen in a picture of the toy's world, told by colours alone.

`python -m lora_worker.toy.judge PICTURE …` prints a line of JSON for each picture. Coarse on purpose: it asks whether
a sample shows what its prompt says, and anybody can check the answer by looking.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from os import PathLike

import numpy as np
from PIL import Image

from lora_worker.toy.pictures import COLORS, SKIN


@dataclass(frozen=True)
class Seen:
    background: str
    """The name of the colour next to that of the upper corners."""
    middle: str
    """The name of the colour next to that of most of the middle."""
    off_skin: float
    """How far most of the middle is from the skin of the character, which nothing else in that world has: the distance
    of two colours, as points of red, green and blue from 0 to 255."""


def judge(image: Image.Image) -> Seen:
    """Of a picture in which the subject stands in the middle."""
    pixels_HW3 = np.asarray(image.convert("RGB"), dtype=np.float32)
    height, width = pixels_HW3.shape[:2]
    corner = pixels_HW3[: height // 6]
    corners = np.concatenate([corner[:, : width // 8], corner[:, -width // 8 :]], axis=1)
    middle = pixels_HW3[2 * height // 5 : 3 * height // 5, 2 * width // 5 : 3 * width // 5]
    return Seen(_name_of(corners), _name_of(middle), round(_distance(middle, SKIN), 1))


def _name_of(pixels_HW3: np.ndarray) -> str:
    return min(COLORS, key=lambda name: _distance(pixels_HW3, COLORS[name]))


def _distance(pixels_HW3: np.ndarray, color: tuple[int, int, int]) -> float:
    typical = np.median(pixels_HW3.reshape(-1, 3), axis=0)
    return float(np.linalg.norm(typical - np.asarray(color, dtype=np.float32)))


def judge_file(path: str | PathLike[str]) -> Seen:
    with Image.open(path) as image:
        return judge(image)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lora_worker.toy.judge", description=__doc__)
    parser.add_argument("pictures", nargs="+")
    for path in parser.parse_args().pictures:
        print(json.dumps({"picture": path, **asdict(judge_file(path))}))


if __name__ == "__main__":
    main()
