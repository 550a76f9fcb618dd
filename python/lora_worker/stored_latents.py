"""Files of latents, of which those that fit are read once and kept in memory.

Once it is full, what it has stays: every epoch visits all images, each time in another order, so that whatever was let
go would be wanted just as soon as what took its place.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from lora_worker.errors import bad_input
from lora_worker.safetensors_file import SafetensorsReader


class StoredLatents:
    def __init__(self, most_bytes: int) -> None:
        self._room = most_bytes
        self._kept: dict[tuple[str, str], Tensor] = {}

    def tensors(self, path: str, shapes: Mapping[str, tuple[int, ...]]) -> list[Tensor]:
        """Those of these names in the file. They are not the caller's to change. Raises `bad-input` where there is none
        or one of another shape."""
        missing = [name for name in shapes if (path, name) not in self._kept]
        read = _read(path, {name: shapes[name] for name in missing}) if missing else {}
        for name, tensor in read.items():
            size = tensor.numel() * tensor.element_size()
            if size <= self._room:
                self._room -= size
                self._kept[path, name] = tensor
        return [read[name] if name in read else self._kept[path, name] for name in shapes]


def _read(path: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    with SafetensorsReader(path) as reader:
        tensors = {name: reader.tensor(name) for name in shapes}
    for name, shape in shapes.items():
        found = list(tensors[name].shape)
        if found != list(shape):
            raise bad_input(f'The {name} of "{path}" has shape {found}, and {list(shape)} is needed.')
    return tensors
