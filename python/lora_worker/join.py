"""This machine's part of a training that is built on another: `python -m lora_worker.join HOST:PORT`.

It waits at the rendezvous for a training, takes part in it, and waits for the next, until it is interrupted. The
machine that builds says what to do; the files have to be here under the same paths.

Whatever a training that had begun ended by, the next one may be better: it waits on. What no waiting will change
ends it.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import tempfile
import time
from dataclasses import replace
from types import FrameType
from typing import Literal

from lora_worker.devices import prepare_environment
from lora_worker.errors import Cancelled, WorkerError
from lora_worker.job import QuietJob
from lora_worker.launch import host_and_port, require_known_host
from lora_worker.launch_agent import Settings
from lora_worker.launcher import NotMet, StoppedElsewhere, process_count, run_processes

_WAIT_SECONDS = 24 * 3600
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

_SAME_SIGNAL_SECONDS = 1
"""A Ctrl-C comes from the terminal and from `lorac`, which passes it on."""


def main() -> int:
    arguments = _parser().parse_args()
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    prepare_environment()
    job = _Printed()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, job.interrupt)
    try:
        require_known_host(arguments.rendezvous)
        settings = Settings(
            processes=process_count(arguments.processes),
            machines=None,
            rendezvous=arguments.rendezvous,
            wait_seconds=arguments.wait,
            logs="",
            request=None,
        )
        job.check_cancelled()
        _take_part(settings, job, once=arguments.once)
        return 0
    except Cancelled:
        _say("Stopped.")
        return EXIT_INTERRUPTED
    except WorkerError as error:
        _tell(error)
        return EXIT_FAILED


def _take_part(settings: Settings, job: _Printed, *, once: bool) -> None:
    """In one training, or in one after the other. Raises what ends the waiting."""
    deadline = time.monotonic() + settings.wait_seconds
    _say(f"Waiting for a training at {settings.rendezvous}. Ctrl-C ends it.")
    while True:
        left = replace(settings, wait_seconds=max(1.0, deadline - time.monotonic()))
        try:
            with tempfile.TemporaryDirectory(prefix="lorac-") as logs:
                run_processes(replace(left, logs=logs), job, job.begins)
            _say("The training is done. Its results are on the machine that builds.")
        except NotMet:
            if time.monotonic() >= deadline:
                raise
            # What was built there ended before all machines had come.
            time.sleep(1)
            continue
        except WorkerError as error:
            if once or not job.takes_part or isinstance(error, Cancelled):
                raise
            _tell(error)
        if once:
            return
        job.takes_part = False
        deadline = time.monotonic() + settings.wait_seconds
        _say(f"Waiting for the next training at {settings.rendezvous}. Ctrl-C ends it.")


def _tell(error: WorkerError) -> None:
    # That somebody stopped it is no error.
    _say(error.message if isinstance(error, StoppedElsewhere) else f"error: {error.message}")
    for problem in error.problems:
        _say(f"  {problem.path}: {problem.message}")
    if error.hint is not None:
        _say(f"hint: {error.hint}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lorac join", description="Take part in a training of another machine.")
    parser.add_argument("rendezvous", metavar="HOST:PORT", type=_rendezvous, help="as the program says it there")
    parser.add_argument("--processes", type=_count, help="how many to start here; one for each GPU")
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
    # Names of files and what other machines say may hold anything.
    print(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text), file=sys.stderr, flush=True)


class _Printed(QuietJob):
    """What processes that are not the first have to say: warnings."""

    takes_part = False

    def __init__(self) -> None:
        self._interrupted_at: float | None = None

    def begins(self) -> None:
        self.takes_part = True
        _say("A training begins, and this machine takes part in it.")

    def interrupt(self, _number: int, _frame: FrameType | None) -> None:
        """The first time, a training stops in all of its processes and keeps its steps; the second time, this ends."""
        now = time.monotonic()
        if self._interrupted_at is None:
            self._interrupted_at = now
            if self.takes_part:
                # Not through sys.stderr, in which the signal may have come.
                os.write(2, b"Stopping. The training stops with this machine, and its steps so far are kept.\n")
        elif now - self._interrupted_at > _SAME_SIGNAL_SECONDS:
            raise Cancelled

    def log(self, level: Literal["info", "warning"], message: str) -> None:
        _say(f"{level}: {message}")

    @property
    def cancelled(self) -> bool:
        return self._interrupted_at is not None


if __name__ == "__main__":
    sys.exit(main())
