"""A base as requests name it, open for reading: one file with everything, or a diffusers folder.

The bench has a third kind, whose numbers are made up as they are read.
"""

from __future__ import annotations

import os
from os import PathLike

from lora_worker.checkpoint import Checkpoint
from lora_worker.folder_checkpoint import FolderCheckpoint, ModelFolder
from lora_worker.random_base import RandomBase, RandomCheckpoint

BaseFiles = str | PathLike[str] | ModelFolder | RandomBase
OpenBase = Checkpoint | FolderCheckpoint | RandomCheckpoint


def open_base(base: BaseFiles) -> OpenBase:
    """Use it in a `with` block. Raises `bad-input`."""
    if isinstance(base, RandomBase):
        return RandomCheckpoint(base)
    return FolderCheckpoint(base) if isinstance(base, ModelFolder) else Checkpoint(base)


def open_autoencoder(base: BaseFiles) -> OpenBase:
    """As `open_base`, for one who needs nothing else: only its files are opened. Raises `bad-input`."""
    if isinstance(base, RandomBase):
        return RandomCheckpoint(base)
    return FolderCheckpoint(base, ("vae",)) if isinstance(base, ModelFolder) else Checkpoint(base)


def files_of(base: BaseFiles) -> tuple[str, ...]:
    return base.files if isinstance(base, ModelFolder | RandomBase) else (os.fspath(base),)
