"""Safetensors files, written so that equal tensors give equal bytes, and read one tensor at a time.

The library's own writer shuffles the metadata from process to process; this one sorts it. Files appear whole:
written under a temporary name, flushed, then renamed. The reader checks the header against the size of the
file before anything else and reads by range, so memory holds only the tensors that are asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from os import PathLike
from typing import Any

import torch
from torch import Tensor

from lora_worker.errors import bad_input
from lora_worker.whole_file import whole_file

# In the format's own order, lowest first: files carry tensors of a higher rank before those of a lower one.
_DTYPES: tuple[tuple[str, torch.dtype], ...] = (
    ("BOOL", torch.bool),
    ("U8", torch.uint8),
    ("I8", torch.int8),
    ("F8_E5M2", torch.float8_e5m2),
    ("F8_E4M3", torch.float8_e4m3fn),
    ("I16", torch.int16),
    ("U16", torch.uint16),
    ("F16", torch.float16),
    ("BF16", torch.bfloat16),
    ("I32", torch.int32),
    ("U32", torch.uint32),
    ("F32", torch.float32),
    ("C64", torch.complex64),
    ("F64", torch.float64),
    ("I64", torch.int64),
    ("U64", torch.uint64),
)
_TORCH_DTYPE = dict(_DTYPES)
_NAME_OF_DTYPE = {dtype: name for name, dtype in _DTYPES}
_RANK_OF_DTYPE = {dtype: rank for rank, (_, dtype) in enumerate(_DTYPES)}

# A multiple of every element size. With its numbers as singles it fits beside much else into a second-level cache.
_PIECE_BYTES = 2**19

_MAX_HEADER_BYTES = 100_000_000


# Writing


def write_safetensors(
    path: str | PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes tensors and metadata; the bytes depend on nothing else. Replaces a file of that name."""
    with whole_file(path) as file:
        file.write(header_bytes(tensors, metadata or {}))
        for chunk in data_chunks(tensors):
            file.write(chunk)


def header_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, at_least: int = 0) -> bytes:
    """Everything before the data: the length, then the JSON text, padded with spaces to a multiple of eight.

    `at_least` so many bytes, for one who writes the header when the data is there already.
    """
    header: dict[str, Any] = {}
    if metadata:
        header["__metadata__"] = {key: metadata[key] for key in sorted(metadata)}
    end = 0
    for name in file_order(tensors):
        tensor = tensors[name]
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _NAME_OF_DTYPE[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text = text.ljust(at_least - 8)
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def data_chunks(tensors: Mapping[str, Tensor]) -> Iterator[memoryview]:
    """The bytes of every tensor in the order in which they lie in the file."""
    for name in file_order(tensors):
        flat = tensors[name].detach().to("cpu").contiguous().reshape(-1)
        yield memoryview(flat.view(torch.uint8).numpy())


def data_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the data section that a file of these tensors has: `sshs_model_hash`."""
    digest = hashlib.sha256()
    for chunk in data_chunks(tensors):
        digest.update(chunk)
    return digest.hexdigest()


def file_order(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names as the reference writer sorts them: the highest dtype rank first, then by the name's bytes."""
    if "__metadata__" in tensors:
        raise ValueError('a tensor cannot be named "__metadata__"')
    return sorted(tensors, key=lambda name: (-_RANK_OF_DTYPE[tensors[name].dtype], name.encode()))


# Reading


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor lies: `start` and `end` are offsets from the beginning of the file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    tensors: Mapping[str, TensorEntry]
    metadata: Mapping[str, str]


class SafetensorsReader:
    """An open file. Use it in a `with` block to read several tensors.

    A tensor that lies in another's place, or past the end, is refused when the file is opened.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._file = _open_for_reading(self.path)
        try:
            self.header = _parse_header(self.path, self._file)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> SafetensorsReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __contains__(self, name: str) -> bool:
        return name in self.header.tensors

    def tensor(self, name: str) -> Tensor:
        """The whole tensor, in its own dtype, on the CPU."""
        entry = self._entry(name)
        return self._read(entry.dtype, entry.shape, entry.start, entry.end)

    def rows(self, name: str, first: int, last: int) -> Tensor:
        """Rows `first` up to but without `last` of the tensor's first axis, without reading the others."""
        entry = self._entry(name)
        if not entry.shape or not 0 <= first <= last <= entry.shape[0]:
            raise ValueError(f'rows {first}:{last} of "{name}", which has shape {list(entry.shape)}')
        row_bytes = (entry.end - entry.start) // max(1, entry.shape[0])
        return self._read(
            entry.dtype,
            (last - first, *entry.shape[1:]),
            entry.start + first * row_bytes,
            entry.start + last * row_bytes,
        )

    def pieces(self, name: str, first: int, last: int) -> Iterator[Tensor]:
        """The numbers of rows `first` up to but without `last`, in flat pieces small enough for a processor's cache.

        Each piece lies where the one before it did: use it before taking the next.
        """
        entry = self._entry(name)
        row_bytes = (entry.end - entry.start) // max(1, entry.shape[0])
        memory = torch.empty(_PIECE_BYTES, dtype=torch.uint8)
        end = entry.start + last * row_bytes
        for start in range(entry.start + first * row_bytes, end, _PIECE_BYTES):
            yield self._fill(memory[: min(_PIECE_BYTES, end - start)], start).view(entry.dtype)

    def _entry(self, name: str) -> TensorEntry:
        entry = self.header.tensors.get(name)
        if entry is None:
            raise bad_input(f'"{self.path}" has no tensor "{name}".')
        return entry

    def _read(self, dtype: torch.dtype, shape: tuple[int, ...], start: int, end: int) -> Tensor:
        data = self._fill(torch.empty(end - start, dtype=torch.uint8), start)
        return data.view(dtype).reshape(shape)

    def _fill(self, data: Tensor, start: int) -> Tensor:
        view = memoryview(data.numpy())
        self._file.seek(start)
        filled = 0
        while filled < len(view):
            count = self._file.readinto(view[filled:])
            if not count:
                raise bad_input(f'"{self.path}" ended while it was being read.')
            filled += count
        return data


def read_header(path: str | PathLike[str]) -> Header:
    """Names, dtypes, shapes, places and metadata, without reading any tensor."""
    with SafetensorsReader(path) as reader:
        return reader.header


def read_tensor(path: str | PathLike[str], name: str) -> Tensor:
    """One tensor, read by its range. For several, keep a `SafetensorsReader` open."""
    with SafetensorsReader(path) as reader:
        return reader.tensor(name)


def read_safetensors(path: str | PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Every tensor and the metadata of a file that fits into memory."""
    with SafetensorsReader(path) as reader:
        return {name: reader.tensor(name) for name in reader.header.tensors}, dict(reader.header.metadata)


def _open_for_reading(path: str) -> Any:
    try:
        return open(path, "rb", buffering=0)
    except FileNotFoundError:
        raise bad_input(f'"{path}" is not there.') from None
    except IsADirectoryError:
        raise bad_input(f'"{path}" is a folder, and a safetensors file is needed.') from None


def _parse_header(path: str, file: Any) -> Header:
    size = os.fstat(file.fileno()).st_size
    prefix = file.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or not 0 < length <= min(_MAX_HEADER_BYTES, size - 8):
        raise bad_input(f'"{path}" is not a safetensors file, or its beginning is damaged.')
    try:
        raw = json.loads(file.read(length).decode())
        raw_metadata = raw.pop("__metadata__", None) or {}
        metadata = {str(key): str(value) for key, value in raw_metadata.items()}
        tensors = {name: _parse_entry(fields, 8 + length) for name, fields in raw.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise bad_input(f'The header of "{path}" cannot be read: {error}.') from None
    end = 8 + length
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != end or entry.end - entry.start != prod(entry.shape) * entry.dtype.itemsize:
            raise bad_input(f'The header of "{path}" gives "{name}" a place that does not fit its shape.')
        end = entry.end
    if end != size:
        raise bad_input(
            f'"{path}" has {size} bytes, and its header describes {end}.',
            hint="The file is truncated or damaged; copy or download it again.",
        )
    return Header(tensors, metadata)


def _parse_entry(fields: Any, data_start: int) -> TensorEntry:
    shape = fields["shape"]
    begin, end = fields["data_offsets"]
    if any(type(number) is not int or number < 0 for number in (*shape, begin, end)):
        raise ValueError("a shape or an offset is not a whole number")
    dtype = _TORCH_DTYPE.get(fields["dtype"])
    if dtype is None:
        raise ValueError(f"the dtype {fields['dtype']!r} is not supported")
    return TensorEntry(dtype, tuple(shape), data_start + begin, data_start + end)
