"""By which of its addresses, and through which interface, this machine is reached from another."""

from __future__ import annotations

import contextlib
import socket
import struct


def address_towards(host: str, port: int) -> str:
    """The own address on the way to another machine. Nothing is sent. Where there is no way, the other's name."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)
            return probe.getsockname()[0]
    except OSError:
        return host


def interface_of(host: str) -> str | None:
    """The interface that has this address (IPv4, on Linux), such as "eth0"; None where nobody can tell."""
    try:
        import fcntl

        wanted = socket.gethostbyname(host)
        names = [name for _, name in socket.if_nameindex()]
    except (ImportError, OSError):
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for name in names:
            with contextlib.suppress(OSError):
                # SIOCGIFADDR: the name in 16 bytes, then a sockaddr_in, whose address is at 4.
                answer = fcntl.ioctl(probe.fileno(), 0x8915, struct.pack("256s", name.encode()[:15]))
                if socket.inet_ntoa(answer[20:24]) == wanted:
                    return name
    return None
