"""A training in several processes, seen from outside: starts them, passes on what they say, and says why they ended.

    launcher ──stdin, stdout──> launch_agent ──starts──> launch_rank, one for each device
        ^────────────────────────channel──────────────────────┘

The worker is the launcher on the machine that builds; on others it is lora_worker.join.

Rules:
- The processes hear of a cancel through the channel, and stop in the same step. Until they all are in the training,
  they are ended instead: there is nothing yet that could be kept.
- When one dies the agent ends the others, and the failure shows what that one printed last.
- Whatever way this ends, no process is left.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lora_worker.channel import ADDRESS, Channel
from lora_worker.devices import choose_device, thread_count
from lora_worker.errors import Cancelled, FileProblem, WorkerError, bad_input
from lora_worker.job import Job
from lora_worker.launch import Launch, host_and_port
from lora_worker.launch_agent import Settings

_POLL_SECONDS = 0.1
_KILL_AFTER_SECONDS = 5


def launched(launch: Launch, job: Job) -> dict[str, str]:
    """Trains in several processes. The outputs of the first."""
    processes = process_count(launch.processes)
    if launch.rendezvous is not None and launch.machines > 1:
        _require_free_port(launch.rendezvous)
    steps = int(launch.request["settings"]["steps"])
    job.progress(0, steps, "steps", _starting(launch, processes))
    with tempfile.TemporaryDirectory(prefix="lorac-") as folder:
        request = Path(folder, "request.json")
        request.write_text(json.dumps(dict(launch.request)))
        settings = Settings(
            processes=processes,
            machines=launch.machines,
            rendezvous=launch.rendezvous if launch.machines > 1 else None,
            wait_seconds=launch.wait_seconds,
            logs=folder,
            request=str(request),
        )
        outputs = run_processes(settings, job)
    assert outputs is not None
    return outputs


def _starting(launch: Launch, processes: int) -> str:
    if launch.machines == 1:
        return f"starting {processes} processes"
    machines = "" if launch.machines == 2 else f" --machines {launch.machines}"
    return f"waiting for {launch.machines - 1} more: lorac join {launch.rendezvous}{machines}"


def process_count(asked: int | None) -> int:
    """How many to start here. Raises `bad-input` where there are not as many devices."""
    import torch

    kind = choose_device().kind
    if kind == "mps":
        raise bad_input(
            "launch = torchrun is for machines with several GPUs, and Apple's is one.", hint="Write launch = single."
        )
    if kind == "cpu":
        return asked or 1
    there = torch.cuda.device_count()
    if asked is not None and asked > there:
        raise bad_input(
            f"{asked} processes need as many GPUs, and {there} can be used here.",
            hint=f"Write launch = torchrun {{ processes = {there} }}, or leave processes out: it is one for each GPU. "
            "CUDA_VISIBLE_DEVICES may hide some.",
        )
    return asked or there


def _require_free_port(rendezvous: str) -> None:
    try:
        _, port = host_and_port(rendezvous)
    except ValueError as error:
        raise bad_input(f"rendezvous: {error}.", hint='Such as rendezvous = "192.168.1.20:29400".') from None
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise bad_input(f"Port {port} cannot be opened: {error.strerror}.") from None
        raise bad_input(
            f"Port {port} is in use by another program.",
            hint=f"Another training may still be at this rendezvous. End it, or take another port, such as {port + 1}.",
        ) from None


def run_processes(settings: Settings, job: Job) -> dict[str, str] | None:
    """The outputs of the first process, None where it is on another machine. Raises what kept them from it."""
    with Channel() as channel, _agent(settings, channel.address) as agent:
        return _Watch(settings, job, channel, agent).outputs()


class _Watch:
    """What is known of the processes."""

    def __init__(self, settings: Settings, job: Job, channel: Channel, agent: subprocess.Popen[bytes]) -> None:
        self._settings = settings
        self._job = job
        self._channel = channel
        self._agent = agent
        self._ready: set[int] = set()
        self._outputs: dict[str, str] | None = None
        self._failures: dict[int, dict[str, Any]] = {}
        self._has_cancelled = False

    def outputs(self) -> dict[str, str] | None:
        while self._agent.poll() is None:
            self._hear(_POLL_SECONDS)
            self._pass_on_cancel()
        assert self._agent.stdout is not None
        lines = self._agent.stdout.read().splitlines()
        while self._hear(_POLL_SECONDS):
            pass
        report = json.loads(lines[-1]) if lines else {"kind": "broken", "why": f"exit code {self._agent.returncode}"}
        if report["kind"] == "done" and not self._failures:
            return self._outputs
        raise self._failure(report)

    def _hear(self, seconds: float) -> bool:
        try:
            number, message = self._channel.heard.get(timeout=seconds)
        except queue.Empty:
            return False
        kind = message.pop("type")
        if kind == "ready":
            self._ready.add(number)
        elif kind == "result":
            self._outputs = message["outputs"]
        elif kind == "failure":
            self._failures[number] = message
        elif kind != "hello":
            # The rest is what a job can be told, in its own words.
            message.pop("id")
            getattr(self._job, kind)(**message)
        return True

    def _pass_on_cancel(self) -> None:
        if not self._job.cancelled or self._has_cancelled:
            return
        if len(self._ready) < self._settings.processes:
            raise Cancelled
        self._has_cancelled = True
        self._channel.say({"type": "cancel"})

    def _failure(self, report: Mapping[str, Any]) -> WorkerError:
        """The first cause that is known: what a process said, how one ended, or what the agent met."""
        told = [message["failure"] for message in self._failures.values() if not message["elsewhere"]]
        died = [one for one in report.get("processes", []) if one["number"] not in self._failures]
        if self._has_cancelled:
            return Cancelled()
        if any(failure["kind"] == "cancelled" for failure in told):
            return WorkerError(
                "internal",
                "The training was stopped on another machine.",
                "Its steps so far are kept; building again goes on from there.",
            )
        if told:
            for one in report.get("processes", []):
                if one["number"] in self._failures and not self._failures[one["number"]]["elsewhere"]:
                    _show_log(one)
            return _error(told[0])
        if died:
            for one in died:
                _show_log(one)
            return _death(died[0], self._settings)
        if self._failures:
            return WorkerError(
                "internal",
                "A process of the training on another machine failed or was ended.",
                "That machine says why. What was finished is kept; building again goes on from there.",
            )
        return _at_rendezvous(report, self._settings)


def _error(failure: Mapping[str, Any]) -> WorkerError:
    problems = [FileProblem(**problem) for problem in failure["problems"]]
    return WorkerError(failure["kind"], failure["message"], failure["hint"], problems)


def _death(died: Mapping[str, Any], settings: Settings) -> WorkerError:
    code = died["exit"]
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended by itself with exit code {code}"
    hint = "The last lines of its log may say why."
    if code == -signal.SIGKILL:
        hint = f"The system may have run out of memory: each of {settings.processes} processes holds the whole model."
    return WorkerError(
        "internal",
        f"Process {died['index']} of the training {how}, and the others were stopped.",
        f"{hint} What was finished is kept; building again goes on from there.",
    )


def _show_log(process: Mapping[str, Any]) -> None:
    for line in process["log"]:
        print(f"process {process['index']}: {line}", file=sys.stderr)
    sys.stderr.flush()


def _at_rendezvous(report: Mapping[str, Any], settings: Settings) -> WorkerError:
    where, machines = settings.rendezvous, settings.machines
    if report["kind"] == "alone":
        return bad_input(
            f"Not all of {machines} machines came to {where} within {round(settings.wait_seconds)} seconds.",
            hint=f"Run lorac join {where} --machines {machines} on each of the others, and look whether they reach "
            "this one by that name, on that port.",
        )
    if report["kind"] == "unreachable":
        return bad_input(
            f"Nobody answers at {where}: {report['why']}",
            hint="Is lorac build running there, with launch = torchrun and the same rendezvous? Is the name right, and "
            "does a firewall keep the port closed?",
        )
    return WorkerError("internal", f"The processes of the training could not be started: {report.get('why')}.")


@contextlib.contextmanager
def _agent(settings: Settings, address: str) -> Iterator[subprocess.Popen[bytes]]:
    package = str(Path(__file__).parents[1])
    threads = max(1, thread_count() // settings.processes)
    environment = {
        **os.environ,
        ADDRESS: address,
        "LORAC_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH")))),
    }
    agent = subprocess.Popen(
        [sys.executable, "-m", "lora_worker.launch_agent", json.dumps(asdict(settings))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    try:
        yield agent
    finally:
        agent.terminate()
        try:
            agent.wait(_KILL_AFTER_SECONDS)
        except subprocess.TimeoutExpired:
            agent.kill()
            agent.wait()
        for pipe in (agent.stdin, agent.stdout):
            if pipe is not None:
                pipe.close()
