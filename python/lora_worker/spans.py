"""Names for the parts of a training step, for whoever measures where its time goes.

    with span("backward"):
        loss.backward()

Costs a look at a variable while nobody measures. While somebody does (`recorded`), each part is timed without waiting
for the device: by events in its stream on a GPU, where the host runs far ahead, by the clock elsewhere. The parts also
carry their names into a trace of torch.profiler, if one is being made.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

SPANS = ("data", "text", "UNet forward", "backward", "optimizer", "saving", "sampling")
"""Every name that is used. What a step does besides has none."""


class Recorder:
    """The parts of what ran while it recorded. Parts may lie within parts, and each counts what is its own."""

    def __init__(self, device: torch.device) -> None:
        self._is_gpu = device.type == "cuda"
        self._clocked: dict[str, float] = defaultdict(float)
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        with torch.profiler.record_function(name):
            self._pass_to(name)
            try:
                yield
            finally:
                self._return()

    def seconds(self) -> dict[str, float]:
        """By name, of all that was recorded so far. Waits for the device."""
        totals = dict(self._clocked)
        if self._events:
            torch.cuda.synchronize()
        for name, start, end in self._events:
            totals[name] = totals.get(name, 0.0) + start.elapsed_time(end) / 1e3
        return totals

    def _pass_to(self, name: str) -> None:
        self._stop()
        self._open.append(name)
        self._start()

    def _return(self) -> None:
        self._stop()
        self._open.pop()
        self._start()

    def _start(self) -> None:
        if not self._open:
            return
        if self._is_gpu:
            self._began = torch.cuda.Event(enable_timing=True)
            self._began.record()
        else:
            self._since = time.perf_counter()

    def _stop(self) -> None:
        if not self._open:
            return
        name = self._open[-1]
        if self._is_gpu:
            ended = torch.cuda.Event(enable_timing=True)
            ended.record()
            self._events.append((name, self._began, ended))
        else:
            self._clocked[name] += time.perf_counter() - self._since


_recorder: Recorder | None = None


def span(name: str) -> AbstractContextManager[None]:
    """Around a part of a step, on the thread that trains."""
    return nullcontext() if _recorder is None else _recorder.span(name)


@contextmanager
def recorded(device: torch.device) -> Iterator[Recorder]:
    """Records all parts of what runs within the block."""
    global _recorder
    if _recorder is not None:
        raise RuntimeError("somebody records already")
    _recorder = Recorder(device)
    try:
        yield _recorder
    finally:
        _recorder = None
