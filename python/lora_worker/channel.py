"""How a launcher and the processes on its machine talk: JSON, one object per line, over a socket of this machine alone.

Each process connects and says the token that it was started with, and its number. The end of the connection, on
whichever side, means that the other one is gone.
"""

from __future__ import annotations

import contextlib
import json
import queue
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lora_worker.protocol import to_line

ADDRESS = "LORAC_CHANNEL"
"""The variable that names the channel to the processes."""

_POLL_SECONDS = 0.2
_HOST = "127.0.0.1"


class Channel:
    """The launcher's end. Use it in a `with` block: at its end all processes are let go."""

    def __init__(self) -> None:
        self._token = secrets.token_hex(16)
        self._server = socket.create_server((_HOST, 0))
        self._server.settimeout(_POLL_SECONDS)
        self._connections: dict[int, socket.socket] = {}
        self._is_open = True
        self.heard: queue.SimpleQueue[tuple[int, dict[str, Any]]] = queue.SimpleQueue()
        """What was said, with the local number of the process that said it."""
        threading.Thread(target=self._accept, name="channel", daemon=True).start()

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_open = False
        for connection in list(self._connections.values()):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def address(self) -> str:
        return f"{self._server.getsockname()[1]} {self._token}"

    def say(self, message: Mapping[str, Any], to: int | None = None) -> None:
        """To the process of that number, or to all. One that is gone hears nothing."""
        for number, connection in list(self._connections.items()):
            if to in (None, number):
                with contextlib.suppress(OSError):
                    connection.sendall(to_line(message))

    def _accept(self) -> None:
        with self._server:
            while self._is_open:
                with contextlib.suppress(TimeoutError):
                    connection, _ = self._server.accept()
                    connection.settimeout(None)
                    threading.Thread(target=self._listen, args=(connection,), name="rank", daemon=True).start()

    def _listen(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, ValueError, KeyError):
            messages = _messages(connection)
            hello = next(messages, None)
            if hello is None or not secrets.compare_digest(str(hello["token"]), self._token):
                return
            number = int(hello["number"])
            self._connections[number] = connection
            if not self._is_open:
                return
            self.heard.put((number, {"type": "hello"}))
            for message in messages:
                self.heard.put((number, message))


class Line:
    """A process' end."""

    def __init__(self, address: str, number: int) -> None:
        port, token = address.split()
        self._lock = threading.Lock()
        self._connection = socket.create_connection((_HOST, int(port)))
        self.say({"token": token, "number": number})

    def say(self, message: Mapping[str, Any]) -> None:
        with self._lock:
            self._connection.sendall(to_line(message))

    def listen(self, hear: Callable[[dict[str, Any]], None], gone: Callable[[], None]) -> None:
        """From now on, in a thread, until the launcher is gone."""

        def run() -> None:
            with contextlib.suppress(OSError, ValueError):
                for message in _messages(self._connection):
                    hear(message)
            gone()

        threading.Thread(target=run, name="launcher", daemon=True).start()


def _messages(connection: socket.socket) -> Iterator[dict[str, Any]]:
    with connection.makefile("rb") as file:
        for line in file:
            yield json.loads(line)
