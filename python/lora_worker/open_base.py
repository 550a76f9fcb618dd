"""A base as requests name it, open for reading: one file with everything, or a diffusers folder."""

from __future__ import annotations

import os
from os import PathLike

from lora_worker.checkpoint import Checkpoint
from lora_worker.folder_checkpoint import FolderCheckpoint, ModelFolder

BaseFiles = str | PathLike[str] | ModelFolder


def open_base(base: BaseFiles) -> Checkpoint | FolderCheckpoint:
    """Use it in a `with` block. Raises `bad-input`."""
    return FolderCheckpoint(base) if isinstance(base, ModelFolder) else Checkpoint(base)


def open_autoencoder(base: BaseFiles) -> Checkpoint | FolderCheckpoint:
    """As `open_base`, for one who needs nothing else: only its files are opened. Raises `bad-input`."""
    return FolderCheckpoint(base, ("vae",)) if isinstance(base, ModelFolder) else Checkpoint(base)


def files_of(base: BaseFiles) -> tuple[str, ...]:
    return base.files if isinstance(base, ModelFolder) else (os.fspath(base),)
