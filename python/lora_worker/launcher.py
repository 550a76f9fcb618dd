"""A training in several processes, seen from outside: starts them, passes on what they say, and says why they ended.

    launcher ──stdin, stdout──> launch_agent ──starts──> launch_rank, one for each device
        ^────────────────────────channel──────────────────────┘

The worker is the launcher on the machine that builds; on others it is lora_worker.join.

Rules:
- The processes hear of a cancel through the channel, and stop in the same step. Until they all are in the training,
  they are ended instead: there is nothing yet that could be kept.
- When one dies the agent ends the others, and the failure shows what that one printed last.
- Whatever way this ends, no process is left.
- What torch prints as machines meet goes to a file, and is shown only where that is what failed.
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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lora_worker.channel import ADDRESS, Channel
from lora_worker.devices import choose_device, thread_count
from lora_worker.errors import Cancelled, FileProblem, WorkerError, bad_input
from lora_worker.job import Job
from lora_worker.launch import Launch, host_and_port, require_known_host
from lora_worker.launch_agent import Settings

_POLL_SECONDS = 0.1
_KILL_AFTER_SECONDS = 5
_REACH_SECONDS = 5
_AGENT_LOG = "agent.log"
_LINES = 20


class NotMet(WorkerError):
    """The machines did not all come to the rendezvous, or lost it before they had."""


class StoppedElsewhere(WorkerError):
    """Somebody stopped the training on another machine."""

    def __init__(self) -> None:
        super().__init__(
            "internal",
            "The training was stopped on another machine.",
            "Its steps so far are kept; building again goes on from there.",
        )


def launched(launch: Launch, job: Job) -> dict[str, str]:
    """Trains in several processes. The outputs of the first."""
    processes = process_count(launch.processes)
    if launch.rendezvous is not None and launch.machines > 1:
        _require_rendezvous(launch.rendezvous)
    steps = int(launch.request["settings"]["steps"])
    job.progress(0, steps, "steps", _starting(launch, processes))
    if launch.machines > 1:
        # Whole and on a line of its own: it is there to be typed.
        where = "the other machine" if launch.machines == 2 else "each of the others"
        job.log("info", f"On {where}: lorac join {launch.rendezvous}")
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
    others = launch.machines - 1
    return f"waiting for {others} more {'machine' if others == 1 else 'machines'}"


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


def _require_rendezvous(rendezvous: str) -> None:
    """Raises `bad-input` where nobody could come to this machine there."""
    try:
        host, port = host_and_port(rendezvous)
    except ValueError as error:
        raise bad_input(f"rendezvous: {error}.", hint='Such as rendezvous = "192.168.1.20:29400".') from None
    require_known_host(rendezvous)
    try:
        server = _listening(port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise bad_input(f"Port {port} cannot be opened: {error.strerror}.") from None
        raise bad_input(
            f"Port {port} is in use by another program.",
            hint=f"Another training may still be at this rendezvous. End it, or take another port, such as {port + 1}.",
        ) from None
    with server:
        try:
            socket.create_connection((host, port), timeout=_REACH_SECONDS).close()
        except OSError:
            raise bad_input(
                f"This machine does not reach itself at {rendezvous}.",
                hint="The rendezvous is the name, or the address, by which the others reach the machine that builds, "
                "and that is this one.",
            ) from None


def _listening(port: int) -> socket.socket:
    """On all addresses, as torch's rendezvous."""
    try:
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise
    except ValueError:
        pass  # A system without IPv6, or with either of both.
    return socket.create_server(("", port))


def run_processes(settings: Settings, job: Job, begins: Callable[[], None] = lambda: None) -> dict[str, str] | None:
    """The outputs of the first process, None where it is on another machine. Raises what kept them from it.

    `begins` is called when the machines have met.
    """
    with Channel() as channel, _agent(settings, channel.address) as agent:
        return _Watch(settings, job, channel, agent, begins).outputs()


class _Watch:
    """What is known of the processes."""

    def __init__(
        self,
        settings: Settings,
        job: Job,
        channel: Channel,
        agent: subprocess.Popen[bytes],
        begins: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._begins = begins
        self._has_begun = False
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
        if kind == "hello":
            # Processes are started when the machines have met.
            if not self._has_begun:
                self._has_begun = True
                self._begins()
        elif kind == "ready":
            self._ready.add(number)
        elif kind == "result":
            self._outputs = message["outputs"]
        elif kind == "failure":
            self._failures[number] = message
        else:
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
            return StoppedElsewhere()
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
    where = settings.rendezvous
    if report["kind"] == "alone":
        machines = "machines" if settings.machines is None else f"of {settings.machines} machines"
        return NotMet(
            "bad-input",
            f"Not all {machines} came to {where} within {round(settings.wait_seconds)} seconds.",
            f"Run lorac join {where} on each of the others, and look whether they reach this one by that name, on that "
            "port.",
        )
    if report["kind"] == "unreachable":
        return NotMet(
            "bad-input",
            f"Nobody answers at {where}: {report['why']}",
            "Is lorac build running there, with launch = torchrun and the same rendezvous? Is the name right, and "
            "does a firewall keep the port closed?",
        )
    for line in _last_lines(Path(settings.logs, _AGENT_LOG)):
        print(line, file=sys.stderr)
    return WorkerError("internal", f"The processes of the training could not be started: {report.get('why')}.")


def _last_lines(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines()[-_LINES:] if path.exists() else []


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
    with Path(settings.logs, _AGENT_LOG).open("wb") as log:
        agent = subprocess.Popen(
            [sys.executable, "-m", "lora_worker.launch_agent", json.dumps(asdict(settings))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
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
