"""LoRA files as other programs expect them: kohya's names, and metadata with true hashes.

Hashes in the metadata are those of the tensor bytes in the file, which is what readers compare them with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from os import PathLike

import torch
from torch import Tensor

from lora_worker.network import Network
from lora_worker.safetensors_file import data_chunks, data_digest, header_bytes, write_safetensors
from lora_worker.snapshot import snapshot

_LEGACY_HASH_START = 0x100000
_LEGACY_HASH_BYTES = 0x10000


def write_lora(path: str | PathLike[str], network: Network, metadata: Mapping[str, str], *, dtype: torch.dtype) -> None:
    """Writes the network's weights in `dtype`; adds the hashes to `metadata`. Replaces a file of that name."""
    write_lora_tensors(path, snapshot(network.file_tensors(dtype)).tensors(), metadata)


def write_lora_tensors(path: str | PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """The same of what `Network.file_tensors` gave, on the CPU by now."""
    write_safetensors(path, tensors, {**metadata, **hashes(tensors, metadata)})


def hashes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, str]:
    """`sshs_model_hash`: SHA-256 of the file's data section. `sshs_legacy_hash`: 8 digits of SHA-256 over 64 KiB at
    1 MiB of a file with the same tensors and only the `ss_` fields, as sd-scripts defines it."""
    kept = {key: value for key, value in metadata.items() if key.startswith("ss_")}
    window = _window([header_bytes(tensors, kept)], data_chunks(tensors))
    return {
        "sshs_model_hash": data_digest(tensors),
        "sshs_legacy_hash": hashlib.sha256(window).hexdigest()[:8],
    }


def _window(*parts: Iterable[bytes | memoryview]) -> bytes:
    """The bytes that the legacy hash covers, of a file that comes in chunks. Empty for a file of less than 1 MiB."""
    found = bytearray()
    position = 0
    for part in parts:
        for chunk in part:
            first = max(0, _LEGACY_HASH_START - position)
            last = max(0, _LEGACY_HASH_START + _LEGACY_HASH_BYTES - position)
            found += chunk[first:last]
            position += len(chunk)
    return bytes(found)
