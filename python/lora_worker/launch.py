"""How many processes train, and where (`launch`), as the request says it."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lora_worker.errors import bad_input
from lora_worker.protocol import Fields, ProtocolError

RUN_ID = "lorac"
"""Machines at one rendezvous know each other by it."""


@dataclass(frozen=True)
class Launch:
    """`processes` on each machine, None: one for each GPU. `rendezvous` is HOST:PORT of the machine that builds, None
    where there is no other. `wait_seconds`: how long the machines wait for each other. `request` is all that was
    asked, for the processes."""

    processes: int | None
    machines: int
    rendezvous: str | None
    wait_seconds: float
    request: Mapping[str, Any] = field(repr=False)

    @staticmethod
    def parse(work: Fields) -> Launch | None:
        """None where one process trains. Raises ProtocolError."""
        if work.raw.get("launch") is None:
            return None
        fields = work.record("launch")
        if fields.one_of("kind", ("single", "torchrun")) == "single":
            return None
        processes, machines = fields.optional_whole("processes"), fields.whole("machines")
        rendezvous = fields.optional_text("rendezvous")
        if machines < 1 or (processes is not None and processes < 1):
            raise ProtocolError(f'"{fields.where}.processes" and "machines" must be 1 or more')
        if machines > 1 and rendezvous is None:
            raise ProtocolError(f'"{fields.where}.rendezvous" is needed for {machines} machines')
        return Launch(processes, machines, rendezvous, fields.number("wait_seconds"), work.raw)


def host_and_port(rendezvous: str) -> tuple[str, int]:
    """Of "HOST:PORT". Raises ValueError."""
    host, _, port = rendezvous.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f'"{rendezvous}" is not HOST:PORT')
    return host.strip("[]"), int(port)


def require_known_host(rendezvous: str) -> None:
    """Raises `bad-input` where this machine has no address for its name: who waits for one waits for ever."""
    host, port = host_and_port(rendezvous)
    try:
        socket.getaddrinfo(host, port)
    except OSError as error:
        raise bad_input(
            f'This machine knows no "{host}": {error.strerror}.',
            hint="The rendezvous is the name, or the address, by which the others reach the machine that builds.",
        ) from None
