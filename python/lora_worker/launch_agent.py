"""torch's elastic agent, in a process of its own: `python -m lora_worker.launch_agent SETTINGS`, JSON of `Settings`.

It meets the agents of other machines at the rendezvous, starts the processes of this machine, and ends all of them
when one dies: nothing is started again, since a training goes on from its own states. One line of JSON on stdout says
how it went (`launcher`). At the end of its stdin it is gone at once.

How many machines there are, the one that builds has from the program, and the others hear from it at the rendezvous:
machines that waited for unequal numbers would never meet.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_worker.devices import prepare_environment
from lora_worker.launch import RUN_ID, host_and_port
from lora_worker.network_address import address_towards, interface_of

if TYPE_CHECKING:
    from torch.distributed import TCPStore

_LINES = 20
_MACHINES = "lorac/machines"


@dataclass(frozen=True)
class Settings:
    """`request` is a file on the machine that builds, None on the others, which are told how many `machines` there are.
    `logs` is a folder for what is printed."""

    processes: int
    machines: int | None
    rendezvous: str | None
    wait_seconds: float
    logs: str
    request: str | None


def main() -> None:
    report = os.dup(1)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_stdin, name="stdin", daemon=True).start()
    prepare_environment()
    settings = Settings(**json.loads(sys.argv[1]))
    told = _run(settings)
    os.write(report, json.dumps(told).encode() + b"\n")


def _end_with_stdin() -> None:
    # Not through sys.stdin, whose lock the end of the interpreter would wait for.
    while os.read(0, 1024):
        pass
    os._exit(0)


def _run(settings: Settings) -> dict[str, Any]:
    """What became of it: `done`, `died` with the processes that did, `alone` or `unreachable`, or `broken`."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousConnectionError, RendezvousTimeoutError
    from torch.distributed.launcher.api import elastic_launch

    arguments = [] if settings.request is None else [settings.request]
    try:
        with _agreed(settings) as agreed:
            elastic_launch(_config(agreed), sys.executable)("-m", "lora_worker.launch_rank", *arguments)
    except ChildFailedError as error:
        died = [
            {"index": index, "number": one.local_rank, "exit": one.exitcode, "log": _log(settings.logs, one.local_rank)}
            for index, one in sorted(error.failures.items())
        ]
        return {"kind": "died", "processes": died}
    except RendezvousTimeoutError:
        return {"kind": "alone"}
    except RendezvousConnectionError as error:
        return {"kind": "unreachable", "why": str(error.__cause__ or error)}
    except Exception as error:
        traceback.print_exc()
        return {"kind": "broken", "why": f"{type(error).__name__}: {error}"}
    return {"kind": "done"}


@contextlib.contextmanager
def _agreed(settings: Settings) -> Iterator[Settings]:
    """With the number of machines, which the one that builds tells the others. Raises as torch's rendezvous does."""
    from torch.distributed.elastic.rendezvous import RendezvousConnectionError

    if settings.rendezvous is None:
        yield settings
        return
    try:
        # torch's rendezvous has a store of its own at this place; of one process, both are the same server.
        store = _store(settings)
        if settings.machines is not None:
            store.set(_MACHINES, str(settings.machines))
        machines = int(store.get(_MACHINES))
    except (RuntimeError, TimeoutError) as error:
        raise RendezvousConnectionError("no store") from error
    yield replace(settings, machines=machines)


def _store(settings: Settings) -> TCPStore:
    from torch.distributed import TCPStore

    assert settings.rendezvous is not None
    host, port = host_and_port(settings.rendezvous)
    wait = timedelta(seconds=max(1, round(settings.wait_seconds)))
    return TCPStore(host, port, is_master=settings.request is not None, multi_tenant=True, timeout=wait)


def _config(settings: Settings) -> Any:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.launcher.api import LaunchConfig

    leads = settings.request is not None
    endpoint, address = "localhost:0", "127.0.0.1"
    if settings.rendezvous is not None:
        endpoint = settings.rendezvous
        address = _own_address(endpoint, leads=leads)
    wait = max(1, round(settings.wait_seconds))
    assert settings.machines is not None
    return LaunchConfig(
        min_nodes=settings.machines,
        max_nodes=settings.machines,
        nproc_per_node=settings.processes,
        run_id=RUN_ID,
        rdzv_backend="c10d",
        rdzv_endpoint=endpoint,
        rdzv_configs={"is_host": leads, "join_timeout": wait, "read_timeout": wait},
        max_restarts=0,
        local_addr=address,
        # Reports of ours go to stdout, so nothing else may.
        logs_specs=DefaultLogsSpecs(log_dir=settings.logs, redirects=Std.ALL),
        signals_to_handle="SIGTERM",
        shutdown_timeout=3,
    )


def _own_address(rendezvous: str, *, leads: bool) -> str:
    """What the other machines reach this one by. Interfaces are told to gloo and NCCL, which otherwise go by what the
    machine calls itself: on many that is a name for 127.0.1.1."""
    host, port = host_and_port(rendezvous)
    address = host if leads else address_towards(host, port)
    interface = interface_of(address)
    if interface is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", interface)
    return address


def _log(folder: str, number: int) -> list[str]:
    """The last lines that a process printed, and at the end what it died of, where Python could still say it."""
    lines: list[str] = []
    for path in sorted(Path(folder).glob(f"*/attempt_*/{number}/std*.log")):
        with contextlib.suppress(OSError):
            lines += path.read_text(errors="replace").splitlines()
    return [*lines[-_LINES:], *(line for line in lines if line.startswith("Fatal Python error"))]


if __name__ == "__main__":
    main()
