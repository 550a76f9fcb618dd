"""This machine's part of a training that is built on another: `python -m lora_worker.join HOST:PORT`.

It waits at the rendezvous for a training, takes part in it, and waits for the next, until it is interrupted. The
machine that builds says what to do; the files have to be here under the same paths.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from dataclasses import replace
from types import FrameType
from typing import Literal

from lora_worker.devices import prepare_environment
from lora_worker.errors import Cancelled, WorkerError
from lora_worker.job import QuietJob
from lora_worker.launch import host_and_port
from lora_worker.launch_agent import Settings
from lora_worker.launcher import process_count, run_processes

_WAIT_SECONDS = 24 * 3600
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def main() -> int:
    arguments = _parser().parse_args()
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    prepare_environment()
    job = _Printed()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, job.interrupt)
    try:
        settings = Settings(
            processes=process_count(arguments.processes),
            machines=arguments.machines,
            rendezvous=arguments.rendezvous,
            wait_seconds=arguments.wait,
            logs="",
            request=None,
        )
        while True:
            _say(f"Waiting for a training at {arguments.rendezvous}.")
            with tempfile.TemporaryDirectory(prefix="lorac-") as logs:
                try:
                    run_processes(replace(settings, logs=logs), job)
                    _say("The training is done. Its results are on the machine that builds.")
                except WorkerError as error:
                    # What was stopped or failed elsewhere may be built again.
                    if arguments.once or isinstance(error, Cancelled) or error.kind == "bad-input":
                        raise
                    _tell(error)
            if arguments.once:
                return 0
    except Cancelled:
        return EXIT_INTERRUPTED
    except WorkerError as error:
        _tell(error)
        return EXIT_FAILED


def _tell(error: WorkerError) -> None:
    _say(f"error: {error.message}")
    for problem in error.problems:
        _say(f"  {problem.path}: {problem.message}")
    if error.hint is not None:
        _say(f"hint: {error.hint}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lorac join", description="Take part in a training of another machine.")
    parser.add_argument("rendezvous", metavar="HOST:PORT", type=_rendezvous, help="as the program says it there")
    parser.add_argument("--processes", type=_count, help="how many to start here; one for each GPU")
    parser.add_argument("--machines", type=_count, default=2, help="how many there are, the one that builds among them")
    parser.add_argument("--wait", type=float, default=_WAIT_SECONDS, help="seconds to wait for a training")
    parser.add_argument("--once", action="store_true", help="end after one training")
    return parser


def _rendezvous(text: str) -> str:
    try:
        host_and_port(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'"{text}" is not a count')
    return int(text)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class _Printed(QuietJob):
    """What processes that are not the first have to say: warnings."""

    def __init__(self) -> None:
        self._is_interrupted = False

    def interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self._is_interrupted = True

    def log(self, level: Literal["info", "warning"], message: str) -> None:
        _say(f"{level}: {message}")

    @property
    def cancelled(self) -> bool:
        return self._is_interrupted


if __name__ == "__main__":
    sys.exit(main())
