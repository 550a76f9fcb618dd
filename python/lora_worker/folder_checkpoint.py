"""A checkpoint that lies in a diffusers folder, read under the names that its tensors have in a single file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from os import path
from typing import Any, get_args

import torch
from torch import Tensor

from lora_worker.architecture import Architecture, Shape, read_architecture
from lora_worker.checkpoint import Checkpoint
from lora_worker.errors import bad_input
from lora_worker.folder_names import CheckpointTensor, Part, checkpoint_tensor, is_needless
from lora_worker.protocol import Fields


@dataclass(frozen=True)
class ModelFolder:
    """The files of a diffusers folder, each part's in order. `scheduler` is its configuration, where there is one."""

    unet: tuple[str, ...]
    text_encoder: tuple[str, ...]
    text_encoder_2: tuple[str, ...]
    vae: tuple[str, ...]
    scheduler: str | None

    @property
    def path(self) -> str:
        """The folder itself: what messages call it."""
        return path.dirname(path.dirname(self.unet[0]))

    @property
    def files(self) -> tuple[str, ...]:
        parts = (*self.unet, *self.text_encoder, *self.text_encoder_2, *self.vae)
        return parts if self.scheduler is None else (*parts, self.scheduler)


def parse_base(work: Fields) -> str | ModelFolder:
    """The field `checkpoint`. Raises ProtocolError."""
    if isinstance(work.any("checkpoint"), str):
        return work.text("checkpoint")
    folder = work.record("checkpoint")
    parts = {part: folder.text_list(part) for part in get_args(Part)}
    return ModelFolder(**parts, scheduler=folder.optional_text("scheduler"))


@dataclass(frozen=True)
class _Piece:
    """A tensor of one of the files, and what it is in a single file."""

    file: Checkpoint
    name: str
    meaning: CheckpointTensor

    @property
    def shape(self) -> Shape:
        stored = self.file.shapes[self.name]
        if self.meaning.change == "transpose":
            return stored[::-1]
        # Old files have the kernel.
        return (*stored, 1, 1) if self.meaning.change == "drop-kernel" and len(stored) == 2 else stored

    def read(self) -> Tensor:
        tensor = self.file.tensor(self.name)
        return tensor.T.contiguous() if self.meaning.change == "transpose" else tensor.reshape(self.shape)


class FolderCheckpoint:
    """Opens the files of `parts` and checks their headers. Raises `bad-input` as `Checkpoint` does, and for a tensor
    that SDXL does not have."""

    def __init__(self, folder: ModelFolder, parts: tuple[Part, ...] = get_args(Part)) -> None:
        self.path = folder.path
        self._scheduler = folder.scheduler
        pieces: dict[str, list[_Piece]] = {}
        with ExitStack() as opened:
            for part in parts:
                files = [opened.enter_context(Checkpoint(each)) for each in getattr(folder, part)]
                names = {name for file in files for name in file.shapes}
                for file in files:
                    for name in file.shapes:
                        if not is_needless(part, name):
                            piece = _piece(part, file, name, names)
                            pieces.setdefault(piece.meaning.key, []).append(piece)
            self._opened = opened.pop_all()
        self._pieces = {key: sorted(each, key=lambda piece: piece.meaning.third or 0) for key, each in pieces.items()}

    def __enter__(self) -> FolderCheckpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        return {key: _stacked(pieces) for key, pieces in self._pieces.items()}

    @cached_property
    def architecture(self) -> Architecture:
        """Raises `bad-input` when this is no SDXL. What the scheduler's configuration says is heard."""
        architecture = read_architecture(self.shapes, name=self.path)
        if self._scheduler is None:
            return architecture
        config = _read_config(self._scheduler)
        predicted = config.get("prediction_type", "epsilon")
        if predicted not in ("epsilon", "v_prediction") or str(config.get("_class_name")).startswith("EDM"):
            raise bad_input(
                f'"{self.path}" is of another kind by its "{self._scheduler}", and epsilon or v_prediction is needed.',
                hint="Name a model that predicts the noise or the velocity.",
            )
        return replace(
            architecture,
            prediction="v" if predicted == "v_prediction" else "epsilon",
            zero_terminal_snr=config.get("rescale_betas_zero_snr") is True,
        )

    def tensor(self, key: str) -> Tensor:
        return torch.cat([piece.read() for piece in self._pieces[key]])

    def rows(self, key: str, first: int, last: int) -> Tensor:
        """Reads no piece that has none of them."""
        found, start = [], 0
        for piece in self._pieces[key]:
            end = start + piece.shape[0]
            if start < last and first < end:
                found.append(piece.read()[max(0, first - start) : last - start])
            start = end
        return torch.cat(found)


def _piece(part: Part, file: Checkpoint, name: str, names: set[str]) -> _Piece:
    meaning = checkpoint_tensor(part, name, names)
    if meaning is None:
        raise bad_input(
            f'"{file.path}" has a tensor that SDXL does not have: "{name}".',
            hint="lorac trains on plain SDXL models; a file with additions would silently lose them.",
        )
    return _Piece(file, name, meaning)


def _stacked(pieces: list[_Piece]) -> Shape:
    """Thirds that do not fit each other are told by whoever checks the shape."""
    first, *_ = (piece.shape for piece in pieces)
    return (sum(piece.shape[0] for piece in pieces), *first[1:]) if len(pieces) > 1 else first


def _read_config(file: str) -> Mapping[str, Any]:
    """Raises `bad-input`."""
    try:
        with open(file, encoding="utf-8") as opened:
            config = json.load(opened)
    except (OSError, ValueError) as error:
        raise bad_input(f'"{file}" cannot be read: {error}.') from None
    if not isinstance(config, dict):
        raise bad_input(f'"{file}" is no configuration.')
    return config
