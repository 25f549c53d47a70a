"""A worker's process, as its server sees it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from sfumato.errors import SfumatoError
from sfumato.server.orders import TOKEN, Order, Setup

WORKER = (sys.executable, "-m", "sfumato.server.worker")
LOST = "the session was lost by a fault of the server: connect again"
_END_SECONDS = 5.0  # in which a worker must end by itself
_WAITING = 2  # messages that wait to be carried on
_BUFFER = 1 << 16  # bytes on their way; frames that wait there would come late


class LostError(SfumatoError):
    """A worker ended, or does not answer."""


class Process:
    """A worker that runs. What it is told and what it tells: :mod:`sfumato.server.orders`.

    Args:
        setup: its first order.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(self, setup: Setup) -> None:
        shutil.rmtree(setup.folder, ignore_errors=True)
        setup.folder.mkdir(parents=True)
        threads = {"OMP_NUM_THREADS": str(setup.threads)}  # of numpy; otherwise one for every core
        self._popen = subprocess.Popen(
            WORKER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=threads | os.environ | {"TMPDIR": str(setup.folder)},
        )
        self._token = setup.token
        self._port = 0
        self._orders = ThreadPoolExecutor(1, "sfumato-orders")  # pipes hold less than a portrait
        self._orders.submit(self._write, setup)

    @property
    def pid(self) -> int:
        """Its number in the system."""
        return self._popen.pid

    def begin(self) -> None:
        """Wait until it can be connected.

        Raises:
            LostError: It ended before.
        """
        told = self.read()
        if told is None:
            raise LostError(f"it did not come up ({self.end()}): what it printed says why")
        self._port = int(told["port"])

    def order(self, order: Order) -> None:
        """Give it an order; returns at once. One that has ended does nothing."""
        with contextlib.suppress(RuntimeError):  # it was told to end
            self._orders.submit(self._write, order)

    def read(self) -> dict[str, Any] | None:
        """What it tells next; blocks. None: it has ended."""
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        if not line.endswith(b"\n"):  # also one that was cut off
            return None
        told: dict[str, Any] = json.loads(line)
        return told

    async def connect(self, path: str) -> ClientConnection:
        """A connection of one visitor.

        Raises:
            LostError: It does not answer.
        """
        # Named, so that asyncio sees what it is and sends small messages at once.
        near = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            near.setblocking(False)
            near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            await asyncio.get_running_loop().sock_connect(near, ("127.0.0.1", self._port))
            return await connect(
                f"ws://127.0.0.1:{self._port}{path}",
                sock=near,
                additional_headers={TOKEN: self._token},
                compression=None,
                max_size=None,
                max_queue=_WAITING,
                ping_interval=None,  # the loss of a process on this machine is noticed without
                close_timeout=1,
            )
        except (OSError, WebSocketException):
            near.close()
            raise LostError(LOST) from None
        except BaseException:
            near.close()
            raise

    def kill(self) -> None:
        """End it at once."""
        self._popen.kill()

    def end(self) -> int:
        """Let its sessions end, and it; blocks. Returns its exit code."""
        with contextlib.suppress(RuntimeError):  # it was told before
            self._orders.submit(self._close)
        self._orders.shutdown(wait=False)
        try:
            self._popen.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._popen.kill()
        return self._popen.wait()

    def _write(self, order: Setup | Order) -> None:
        assert self._popen.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # it has ended
            pickle.dump(order, self._popen.stdin, protocol=5)
            self._popen.stdin.flush()

    def _close(self) -> None:
        """No more orders: that is what it ends by."""
        assert self._popen.stdin is not None
        with contextlib.suppress(OSError):
            self._popen.stdin.close()
