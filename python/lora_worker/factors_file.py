"""The file of a decomposition, written while it is computed.

Shapes are known before the numbers are, so every tensor has its place from the start, and a thread puts them there
and has the disk take them while the next ones are computed. The header comes last, since it says how exact they are.
As all files it appears whole or not at all; its bytes do not depend on the order in which tensors come.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO

import torch
from torch import Tensor

from lora_worker.safetensors_file import file_order, header_bytes
from lora_worker.whole_file import whole_file

# Batches that may wait to be written; each has its numbers in memory.
_WAITING = 2
# Bytes after which the disk is asked to take what it has, so that little is left to wait for at the end.
_FLUSH_EVERY = 64 * 2**20


class FactorsFile:
    """`write` may be called in any order; `metadata` has to be set, no longer than what was promised."""

    def __init__(self, file: BinaryIO, shapes: Mapping[str, tuple[int, ...]], longest: Mapping[str, str]) -> None:
        self.metadata: Mapping[str, str] = {}
        self._layout = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
        self._start = len(header_bytes(self._layout, longest))
        self._offsets: dict[str, int] = {}
        end = self._start
        for name in file_order(self._layout):
            self._offsets[name], end = end, end + 4 * self._layout[name].numel()
        self._file = file
        self._failure: BaseException | None = None
        self._waiting: queue.Queue[Mapping[str, Tensor] | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._write_all, name="factors", daemon=True)
        self._thread.start()

    def write(self, tensors: Mapping[str, Tensor]) -> None:
        """Of the shapes that were promised, in F32, on the CPU, and not changed afterwards."""
        for name, tensor in tensors.items():
            if tensor.shape != self._layout[name].shape or tensor.dtype != torch.float32:
                raise AssertionError(f"{name} has shape {list(tensor.shape)}, not {list(self._layout[name].shape)}")
        self._waiting.put(tensors)
        self._raise_failure()

    def finish(self) -> None:
        self._waiting.put(None)
        self._thread.join()
        self._raise_failure()
        header = header_bytes(self._layout, self.metadata, at_least=self._start)
        if len(header) != self._start:
            raise AssertionError("the metadata is longer than what was promised")
        self._file.seek(0)
        self._file.write(header)

    def abandon(self) -> None:
        """Stops the thread before its file is closed."""
        self._failure = self._failure or RuntimeError("abandoned")
        self._waiting.put(None)
        self._thread.join()

    def _write_all(self) -> None:
        unflushed = 0
        while (tensors := self._waiting.get()) is not None:
            if self._failure is not None:
                continue
            try:
                for name, tensor in tensors.items():
                    self._file.seek(self._offsets[name])
                    self._file.write(memoryview(tensor.contiguous().reshape(-1).numpy()).cast("B"))
                    unflushed += 4 * tensor.numel()
                if unflushed >= _FLUSH_EVERY:
                    self._file.flush()
                    _have_the_disk_take(self._file.fileno())
                    unflushed = 0
            except BaseException as failure:
                self._failure = failure

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


def _have_the_disk_take(descriptor: int) -> None:
    (os.fdatasync if hasattr(os, "fdatasync") else os.fsync)(descriptor)


@contextmanager
def factors_file(path: str, shapes: Mapping[str, tuple[int, ...]], longest: Mapping[str, str]) -> Iterator[FactorsFile]:
    """A file of F32 tensors of these shapes. `longest` is metadata at least as long as the true one will be."""
    with whole_file(path) as file:
        factors = FactorsFile(file, shapes, longest)
        try:
            yield factors
            factors.finish()
        except BaseException:
            factors.abandon()
            raise
