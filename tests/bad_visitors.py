"""Visitors of a live server on a bad network, and such as mean it ill: plain sockets, no manners.

Run as a program, a visitor of a process of its own, who can be killed:

    python bad_visitors.py PORT websocket|webrtc
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import random
import select
import socket
import struct
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np

from sfumato.protocol import Kind, Packet, message, to_pcm
from sfumato.timebase import SAMPLE_RATE

HELLO = message(Kind.HELLO, {"version": 1})
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
_FULL = 1013
_UPGRADE = (
    "GET /live HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
)


class GoneError(Exception):
    """The server hung up."""

    def __init__(self, code: int = 1006) -> None:
        super().__init__(code)
        self.code = code


def words(seconds: float = 1.0) -> bytes:
    """Something to say, as samples of the protocol."""
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return to_pcm((0.1 * np.sign(np.sin(2 * np.pi * 140 * t))).astype(np.float32))


def framed(data: bytes, opcode: int = BINARY, *, ends: bool = True) -> bytes:
    """A frame of a WebSocket, as clients send it: masked."""
    size = len(data)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 1 << 16:
        length = b"\xfe" + struct.pack(">H", size)
    else:
        length = b"\xff" + struct.pack(">Q", size)
    mask = os.urandom(4)
    body = bytes(a ^ b for a, b in zip(data, itertools.cycle(mask), strict=False))
    return bytes([opcode | 0x80 * ends]) + length + mask + body


def connect(port: int, *, narrow: bool = False) -> socket.socket:
    """A connection; ``narrow`` takes little before it must be read."""
    line = socket.socket()
    if narrow:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.settimeout(20)
    line.connect(("127.0.0.1", port))
    return line


def vanish(line: socket.socket) -> None:
    """Gone without a goodbye: the connection is reset."""
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.close()


def until_cut(line: socket.socket, seconds: float) -> float:
    """Wait, without reading, until the server has cut the line; how long that took."""
    poll, start = select.poll(), time.monotonic()
    poll.register(line, select.POLLHUP | select.POLLERR | select.POLLRDHUP)
    if not poll.poll(1000 * seconds):
        raise AssertionError(f"the line still stands after {seconds} seconds")
    return time.monotonic() - start


class Visitor:
    """A WebSocket on a plain socket."""

    def __init__(self, port: int, *, narrow: bool = False) -> None:
        self.line = connect(port, narrow=narrow)
        self._read = self.line.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        self.line.sendall(_UPGRADE.format(port=port, key=key).encode())
        if b" 101 " not in self._read.readline():
            raise GoneError
        while self._read.readline().strip():
            pass

    @staticmethod
    def seated(port: int, *, narrow: bool = False, seconds: float = 120) -> Visitor:
        """One who was let in and heard hello; where all seats are taken it is tried again."""
        end = time.monotonic() + seconds
        while True:
            visitor = Visitor(port, narrow=narrow)
            try:
                visitor.send(HELLO)
                visitor.receive()
                return visitor
            except GoneError as gone:
                visitor.line.close()
                if gone.code != _FULL or time.monotonic() > end:
                    raise
                time.sleep(random.random())

    def send(self, data: bytes, opcode: int = BINARY) -> None:
        self.line.sendall(framed(data, opcode))

    def speak(self, seconds: float = 1.0) -> None:
        self.send(bytes([Kind.SPEECH]) + words(seconds))

    def receive(self) -> tuple[int, bytes]:
        """The next message: its kind and its body."""
        while True:
            head = self._exactly(2)
            size = head[1] & 127
            if size == 126:
                (size,) = struct.unpack(">H", self._exactly(2))
            elif size == 127:
                (size,) = struct.unpack(">Q", self._exactly(8))
            data = self._exactly(size)
            if head[0] & 15 == CLOSE:
                raise GoneError(struct.unpack(">H", data[:2])[0] if data else 1005)
            if head[0] & 15 == PING:
                self.send(data, PONG)
            if head[0] & 15 == BINARY:
                return data[0], data[1:]

    def frames(self) -> Iterator[Packet]:
        """Only those, without end."""
        while True:
            kind, body = self.receive()
            if kind == Kind.FRAME:
                yield Packet.unpack(body)

    def answer(self, question: int) -> None:
        """Wait for the answer to a ping of the protocol."""
        self.send(message(Kind.CONTROL, {"ping": question}))
        while True:
            kind, body = self.receive()
            if kind == Kind.STATE and json.loads(body).get("pong") == question:
                return

    def _exactly(self, count: int) -> bytes:
        data = self._read.read(count)
        if len(data) < count:
            raise GoneError
        return data


def speak_by_websocket(port: int) -> None:
    """Speak and watch until killed."""
    visitor = Visitor.seated(port)
    for number, _ in enumerate(visitor.frames()):
        if number % 20 == 0:
            visitor.speak()
        if number == 10:
            print("speaking", flush=True)


async def speak_by_webrtc(port: int) -> None:
    """The same as a browser would."""
    from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    for kind in ("video", "audio"):
        peer.addTransceiver(kind, direction="recvonly")
    channel = peer.createDataChannel("live")
    channel.on("open", lambda: channel.send(HELLO))
    tracks: dict[str, Any] = {}
    peer.on("track", lambda track: tracks.setdefault(track.kind, track))
    await peer.setLocalDescription(await peer.createOffer())
    local = peer.localDescription
    offer = json.dumps({"sdp": local.sdp, "type": local.type}).encode()
    answer = await asyncio.to_thread(_offered, port, offer)
    await peer.setRemoteDescription(RTCSessionDescription(**answer))
    for number in range(1_000_000):
        await tracks["video"].recv()
        if number % 20 == 0:
            channel.send(bytes([Kind.SPEECH]) + words())
        if number == 10:
            print("speaking", flush=True)


def _offered(port: int, offer: bytes) -> Any:
    url = f"http://localhost:{port}/api/live"
    headers = {"Content-Type": "application/json"}
    for _ in range(60):
        with contextlib.suppress(urllib.error.HTTPError):  # all seats are taken
            request = urllib.request.Request(url, offer, headers)
            with urllib.request.urlopen(request, timeout=20) as answer:
                return json.load(answer)
        time.sleep(1)
    raise GoneError(_FULL)


if __name__ == "__main__":
    if sys.argv[2] == "websocket":
        speak_by_websocket(int(sys.argv[1]))
    else:
        asyncio.run(speak_by_webrtc(int(sys.argv[1])))
