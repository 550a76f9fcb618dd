"""The work folder of a training: whose it is, and what may be there."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from lora_worker.checkpoint import Checkpoint
from lora_worker.open_base import BaseFiles, files_of
from lora_worker.whole_file import whole_file

_NOTE = "identity"
_OURS = ("states", "steps", "samples", "montage.png", "animation.webp", "metrics.jsonl", "lora.safetensors", _NOTE)

_SAMPLES = 64
_SAMPLE_BYTES = 1 << 16


def claim_folder(folder: Path, identity: str) -> None:
    """Makes the folder ready for the training of that identity. What another training left in it is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / _NOTE
    if note.exists() and note.read_text() == identity:
        return
    for name in _OURS:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    with whole_file(note) as file:
        file.write(identity.encode())


def checkpoint_facts(base: BaseFiles) -> str:
    """Tells checkpoints apart without reading all of their gigabytes: a digest of the size, the header and 64 samples
    of the data, or of these of each file. Raises `bad-input`."""
    facts = [_file_facts(path) for path in files_of(base)]
    return facts[0] if len(facts) == 1 else hashlib.sha256("".join(facts).encode()).hexdigest()


def _file_facts(path: str) -> str:
    if path.endswith(".json"):
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    with Checkpoint(path) as checkpoint:
        header_end = min((entry.start for entry in checkpoint.header.tensors.values()), default=8)
    size = os.path.getsize(path)
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        digest.update(file.read(header_end))
        for sample in range(_SAMPLES):
            file.seek(header_end + (size - header_end) * sample // _SAMPLES)
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()
