"""States of a training: all that is needed to go on, in one folder each, of which the newest two are kept.

Rules:
- A folder `step-00000010` is complete: it is written under another name, flushed to the disk, and then renamed.
- What it says about itself is checked when it is read. A damaged state is passed over for the one before it.
- A state of another training (other settings, images or checkpoint) is never gone on from.
- Random numbers are looked up by step (lora_worker.streams), so no generator state is here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lora_worker.errors import WorkerError
from lora_worker.safetensors_file import data_digest, read_safetensors, write_safetensors
from lora_worker.whole_file import flush_folder, write_json

_KEPT = 2
_FORMAT = 1
_TENSORS = "tensors.safetensors"
_VALUES = "state.json"
_NAME = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class State:
    """`step` counts the optimizer steps that are done. `values` is plain JSON."""

    step: int
    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


def save_state(folder: Path, state: State, *, identity: str) -> None:
    """Adds a state and removes all but the newest two. `identity` is a digest of what the training is.

    When this fails, as on a full disk, the states before it are as they were.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step-{state.step:08d}"
    partial = folder / "partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        tensors = {name: tensor.cpu() for name, tensor in state.tensors.items()}
        write_safetensors(partial / _TENSORS, tensors)
        described = {
            "format": _FORMAT,
            "identity": identity,
            "step": state.step,
            "tensors": data_digest(tensors),
            "values": state.values,
        }
        write_json(partial / _VALUES, described)
        if target.exists():
            shutil.rmtree(target)
        os.replace(partial, target)
        flush_folder(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    for old in _states(folder)[_KEPT:]:
        shutil.rmtree(old)


def load_newest_state(folder: Path, *, identity: str, at_most: int, warn: Callable[[str], None]) -> State | None:
    """The newest state that is whole, belongs to this training and has no more than `at_most` steps.

    All others that are newer are removed: training comes by them again. `warn` hears about each that is damaged.
    """
    for path in _states(folder):
        try:
            state = _read(path, identity) if _step_of(path) <= at_most else None
        except (WorkerError, OSError, ValueError, KeyError, TypeError) as error:
            warn(f'The state "{path}" is damaged and is not used: {error}')
            state = None
        if state is not None:
            return state
        shutil.rmtree(path)
    return None


def _read(path: Path, identity: str) -> State | None:
    """None for a state of another training. Raises one of several errors when it is damaged."""
    described = json.loads((path / _VALUES).read_bytes())
    if (described["format"], described["identity"]) != (_FORMAT, identity):
        return None
    if described["step"] != _step_of(path):
        raise ValueError("its name and its content tell different steps")
    tensors, _ = read_safetensors(path / _TENSORS)
    if data_digest(tensors) != described["tensors"]:
        raise ValueError("its tensors are not what was written")
    return State(described["step"], tensors, described["values"])


def _states(folder: Path) -> list[Path]:
    """Newest first."""
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=_step_of, reverse=True)


def _step_of(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1])
