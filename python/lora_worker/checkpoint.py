"""A single-file checkpoint, open for reading one tensor at a time."""

from __future__ import annotations

import os
from functools import cached_property
from os import PathLike

from lora_worker.architecture import Architecture, Shape, read_architecture
from lora_worker.errors import bad_input
from lora_worker.safetensors_file import SafetensorsReader


class Checkpoint(SafetensorsReader):
    """Opens the file and checks its header. Raises `bad-input` for a pickle, a truncated file, no safetensors file."""

    def __init__(self, path: str | PathLike[str]) -> None:
        _refuse_pickles(os.fspath(path))
        super().__init__(path)

    def __enter__(self) -> Checkpoint:
        return self

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        return {name: entry.shape for name, entry in self.header.tensors.items()}

    @cached_property
    def architecture(self) -> Architecture:
        """Raises `bad-input` when the file is no SDXL checkpoint."""
        return read_architecture(self.shapes, self.header.metadata, name=self.path)


def _refuse_pickles(path: str) -> None:
    """A pickle runs its author's code when it is loaded. Known by its bytes too, since any file can be renamed."""
    beginning = b""
    if os.path.isfile(path):
        with open(path, "rb") as file:
            beginning = file.read(9)
    is_archive = beginning[:4] == b"PK\x03\x04"
    is_bare_pickle = beginning[:1] == b"\x80" and beginning[1:2] <= b"\x05" and beginning[8:] != b"{"
    if path.lower().endswith((".ckpt", ".pt", ".pth", ".bin")) or is_archive or is_bare_pickle:
        raise bad_input(
            f'"{path}" is a pickled checkpoint, and loading one would run code that its author put in.',
            hint="Download the .safetensors version, or convert the file with a tool that you trust.",
        )
