"""One of the processes of a training with `launch = torchrun`: `python -m lora_worker.launch_rank [REQUEST]`.

torch's elastic agent starts it and says in the environment which one it is. It connects to the launcher of its machine
(lora_worker.channel), takes the request from the first process, and trains its share. The first is the one that has
a file with the request: number 0 on the machine that builds.

Rules:
- When the launcher is gone, so is this process, in the middle of whatever it does.
- Why it stops is told to the launcher. What it prints goes to a file, whose end is shown when the process dies.
"""

from __future__ import annotations

import faulthandler
import hashlib
import json
import os
import platform
import signal
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lora_worker.channel import ADDRESS, Line
from lora_worker.devices import choose_device, prepare_environment
from lora_worker.errors import Cancelled, bad_input, file_problem
from lora_worker.failures import failure_of
from lora_worker.job import Job, QuietJob
from lora_worker.worker import PipeJob

if TYPE_CHECKING:
    from lora_worker.ranks import Group
    from lora_worker.train_request import Train

# A collective is begun by all at nearly the same time: they have met just before it.
_PATIENCE = timedelta(minutes=10)

_SHOWN = 5


def main() -> None:
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    number = int(os.environ["LOCAL_RANK"])
    line = Line(os.environ[ADDRESS], number)
    cancelled: set[int] = set()
    # All that a launcher ever says is that the training should stop.
    line.listen(lambda _: cancelled.add(0), lambda: os._exit(0))
    request = json.loads(Path(sys.argv[1]).read_bytes()) if number == 0 and len(sys.argv) > 1 else None
    try:
        with _together(request is not None) as ranks:
            request = ranks.of_first(request)
            line.say({"type": "ready"})
            job = PipeJob(0, line.say, cancelled)
            outputs = _train(request or {}, job if ranks.is_first else _Quiet(job, ranks.index), ranks)
    except Exception as error:
        line.say(_why(error, request or {}))
        sys.stderr.flush()
        # The usual way out would wait for collectives that never end. A cancel is no failure.
        os._exit(0 if isinstance(error, Cancelled) else 1)
    if outputs:
        line.say({"type": "result", "outputs": outputs})
    os._exit(0)


@contextmanager
def _together(leads: bool) -> Iterator[Group]:
    """This process among the others."""
    _see_only_own_gpu(os.environ, int(os.environ["LOCAL_RANK"]))
    threads = prepare_environment()
    import torch
    from torch import distributed

    from lora_worker.ranks import Group

    torch.set_num_threads(threads)
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=_PATIENCE)
    yield Group(leads=leads, device=choose_device().name, host=platform.node())
    distributed.destroy_process_group()


def _see_only_own_gpu(environment: MutableMapping[str, str], number: int) -> None:
    """All that names no GPU then means this one, in every thread: torch's current device is one per thread."""
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        environment["CUDA_VISIBLE_DEVICES"] = str(number)
        return
    visible = [name.strip() for name in named.split(",")]
    # With fewer, or with "" and -1, which mean none, there is nothing to choose.
    if number < len(visible) and visible[number] not in ("", "-1"):
        environment["CUDA_VISIBLE_DEVICES"] = visible[number]


def _train(request: Mapping[str, Any], job: Job, ranks: Group) -> dict[str, str]:
    from lora_worker.stages.train import trained
    from lora_worker.train_request import parse_train

    _require_same_program(ranks)
    work = parse_train(request)
    assert work.launch is not None
    _require_files(work, ranks)
    if ranks.is_first:
        where = "on this machine" if work.launch.machines == 1 else f"on {work.launch.machines} machines"
        job.log("info", f"{ranks.count} processes {where} share the images of each step.")
        if ranks.count > work.settings.images_per_step:
            idle = ranks.count - work.settings.images_per_step
            images = work.settings.images_per_step
            shared = f"{images} {'image' if images == 1 else 'images'}"
            waits = "1 of them only waits" if idle == 1 else f"{idle} of them only wait"
            job.log("warning", f"{ranks.count} processes share the {shared} of a step: {waits}.")
    return trained(work, job, ranks)


def _require_same_program(ranks: Group) -> None:
    """Raises `bad-input` in all processes, naming a machine that has another: it may share out images otherwise."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    host = ranks.host_that_differs(digest.hexdigest())
    if host is not None:
        raise bad_input(
            f"{host} has another version of lorac than the machine that builds.",
            hint="Install the same one on all machines.",
        )


def _require_files(work: Train, ranks: Group) -> None:
    """Raises `bad-input` in all processes where one of them lacks a file, naming its machine."""
    missing = [path for path in sorted(_files(work)) if not Path(path).is_file()]
    for host, lacking in ranks.of_all((platform.node(), missing)):
        if lacking:
            raise bad_input(
                f"{len(lacking)} files that the training needs are not on {host}.",
                hint="Each machine reads the checkpoint and the latents under the same paths: share the folders of the "
                "program and of its checkpoint, or copy them there with what is in .lorac.",
                problems=[file_problem(path, f"is not on {host}") for path in lacking[:_SHOWN]],
            )


def _files(work: Train) -> set[str]:
    from lora_worker.open_base import files_of

    latents = [path for image in work.images for path in (image.latents, image.latents_flipped) if path is not None]
    return {*files_of(work.checkpoint), *latents, *([] if work.init is None else [work.init.lora])}


def _why(error: Exception, request: Mapping[str, Any]) -> dict[str, Any]:
    # Imports torch, which is what may have failed.
    ranks = sys.modules.get("lora_worker.ranks")
    is_elsewhere = ranks is not None and isinstance(error, ranks.Elsewhere)
    return {"type": "failure", "failure": failure_of(error, request), "elsewhere": is_elsewhere}


class _Quiet(QuietJob):
    """The job of a process that is not the first: it has only its own warnings to tell."""

    def __init__(self, job: Job, index: int) -> None:
        self._job = job
        self._index = index

    def log(self, level: Literal["info", "warning"], message: str) -> None:
        if level == "warning":
            self._job.log("warning", f"Process {self._index}: {message}")

    @property
    def cancelled(self) -> bool:
        return self._job.cancelled


if __name__ == "__main__":
    main()
