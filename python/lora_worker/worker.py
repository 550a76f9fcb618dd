"""The worker's process: says hello, then does one request after another until its stdin ends.

Rules:
- Nothing but messages reaches the real stdout. File descriptor 1 points at stderr for everyone else.
- A thread reads stdin, so that a cancel is heard while a stage computes.
- At the end of stdin the process is gone at once, in the middle of whatever it does: files appear whole or not at all.
- SIGINT is ignored, and the process has a group of its own: the CLI decides when to stop.
- Every request gets exactly one `result` or `failure`; after either the worker is ready for the next.
- torch is imported after the environment is prepared, and a stage's module when it is first asked for.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import os
import platform
import queue
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from os import PathLike, fspath
from typing import Any, Literal

from lora_worker.devices import choose_device, prepare_environment
from lora_worker.failures import failure_of, output_folder
from lora_worker.folder_lock import locked_folder
from lora_worker.job import Job
from lora_worker.protocol import PROTOCOL, Cancel, ProtocolError, Request, parse_message, to_line

# Operation to the module in lora_worker.stages that does it.
_STAGES = {
    "look": "look",
    "encode_latents": "encode_latents",
    "train": "train",
    "sample": "sample",
    "measure": "measure",
    "grid": "grid",
    "montage": "montage",
    "decompose": "decompose",
    "frobenius": "reference_numbers",
    "spectral": "reference_numbers",
    "projections": "reference_numbers",
}

# Neither needs the memory in which `sample` keeps its networks for the next request.
_LIGHT = ("sample", "measure", "grid", "montage", "look")

EXIT_PROTOCOL = 2
EXIT_NO_TORCH = 3


def main() -> int:
    """Runs until stdin ends. The exit code is for the log; the CLI goes by the messages."""
    send = _sender(_take_stdout())
    faulthandler.enable()
    _leave_the_terminal_alone()
    inbox = Inbox()
    threading.Thread(target=inbox.read, name="stdin", daemon=True).start()
    threads = prepare_environment()
    try:
        send(_hello(threads))
    except ImportError as error:
        print(f"PyTorch cannot be imported by {sys.executable}: {error}", file=sys.stderr)
        return EXIT_NO_TORCH
    while True:
        request = inbox.requests.get()
        send(_answer(request, PipeJob(request.id, send, inbox.cancelled)))


class Inbox:
    """What the CLI has said: requests in order, and the ids that it no longer wants."""

    def __init__(self) -> None:
        self.requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self.cancelled: set[int] = set()

    def read(self) -> None:
        """Reads until stdin ends, and then ends the process."""
        try:
            for line in sys.stdin.buffer:
                message = parse_message(line)
                if isinstance(message, Cancel):
                    self.cancelled.add(message.id)
                else:
                    self.requests.put(message)
        except ProtocolError as error:
            print(f"The worker and lorac do not understand each other: {error}.", file=sys.stderr, flush=True)
            os._exit(EXIT_PROTOCOL)
        except OSError as error:
            print(f"The pipe from lorac broke: {error}.", file=sys.stderr, flush=True)
        os._exit(0)


class PipeJob(Job):
    """A job that tells the CLI."""

    def __init__(self, request: int, send: Callable[[Mapping[str, Any]], None], cancelled: set[int]) -> None:
        self._request = request
        self._send = send
        self._cancelled = cancelled

    def progress(self, done: int, total: int, unit: str, note: str | None = None) -> None:
        noted = {} if note is None else {"note": note}
        self._tell("progress", done=done, total=total, unit=unit, **noted)

    def step(
        self,
        step: int,
        total: int,
        loss: float,
        learning_rates: Mapping[str, float],
        grad_norm: float,
        seconds: float,
    ) -> None:
        self._tell(
            "step",
            step=step,
            total=total,
            loss=float(loss),
            learning_rates={group: float(rate) for group, rate in learning_rates.items()},
            grad_norm=float(grad_norm),
            seconds=float(seconds),
        )

    def artifact(self, name: str, path: str | PathLike[str]) -> None:
        self._tell("artifact", name=name, path=fspath(path))

    def log(self, level: Literal["info", "warning"], message: str) -> None:
        self._tell("log", level=level, message=message)

    @property
    def cancelled(self) -> bool:
        return self._request in self._cancelled

    def _tell(self, kind: str, **fields: Any) -> None:
        self._send({"type": kind, "id": self._request, **fields})


def _answer(request: Request, job: Job) -> Mapping[str, Any]:
    """Does the work, and gives the one message that ends it."""
    try:
        job.check_cancelled()
        outputs = _do(request, job)
    except Exception as error:
        answer = {"type": "failure", "id": request.id, "failure": failure_of(error, request.work)}
    else:
        answer = {"type": "result", "id": request.id, "outputs": {name: fspath(path) for name, path in outputs.items()}}
    _release_memory()
    return answer


def _do(request: Request, job: Job) -> Mapping[str, str]:
    module = _STAGES.get(request.op)
    if module is None:
        raise ProtocolError(f'there is no operation "{request.op}"')
    if request.op not in _LIGHT:
        _forget_models()
    stage = importlib.import_module(f"lora_worker.stages.{module}")
    work = stage.parse(request.work)
    folder = output_folder(request.work)
    with locked_folder(folder, job) if folder else contextlib.nullcontext():
        return stage.run(work, job)


def _hello(threads: int) -> Mapping[str, Any]:
    import torch

    torch.set_num_threads(threads)
    device = choose_device()
    return {
        "type": "hello",
        "protocol": PROTOCOL,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": device.kind,
        "deviceName": device.name,
        "threads": threads,
    }


def _take_stdout() -> int:
    """Keeps the real stdout for messages and gives everyone else stderr in its place."""
    sys.stdout.flush()
    descriptor = os.dup(1)
    os.dup2(2, 1)
    return descriptor


def _sender(descriptor: int) -> Callable[[Mapping[str, Any]], None]:
    lock = threading.Lock()

    def send(message: Mapping[str, Any]) -> None:
        rest = memoryview(to_line(message))
        with lock:
            try:
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            except ConnectionError:
                # Nobody listens any more.
                os._exit(0)

    return send


def _leave_the_terminal_alone() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgrp") and os.getpgrp() != os.getpid():
        os.setpgrp()


def _forget_models() -> None:
    kept = sys.modules.get("lora_worker.kept_models")
    if kept is not None:
        kept.forget_models()
        _release_memory()


def _release_memory() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
