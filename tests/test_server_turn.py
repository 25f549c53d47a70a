"""Relays (TURN): options, time-limited passwords, who gets them, a session over a real coturn."""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import hmac
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sfumato import cli
from sfumato.avatar import Studio
from sfumato.errors import InputError
from sfumato.protocol import Kind, message

pytest.importorskip("fastapi", reason="needs the extra: server")
pytest.importorskip("aiortc", reason="needs the extra: server")

import httpx2  # noqa: E402
from aiortc import (  # noqa: E402
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.rtcconfiguration import RTCIceTransportPolicy  # noqa: E402
from fastapi import FastAPI  # noqa: E402
from fastapi.testclient import TestClient  # noqa: E402

from sfumato.server import turn  # noqa: E402
from sfumato.server.app import create_app  # noqa: E402
from sfumato.server.settings import ServerSettings  # noqa: E402

pytestmark = pytest.mark.unit

SECRET = "north"
TURNSERVER = shutil.which("turnserver")
RELAY_ONLY = functools.partial(RTCConfiguration, iceTransportPolicy=RTCIceTransportPolicy.RELAY)


# Options


@pytest.mark.parametrize(
    "address",
    [
        "turn:relay.example.org",
        "turn:relay.example.org:3478",
        "turn:198.51.100.7:3478?transport=udp",
        "turn:relay:443?transport=tcp",
        "turns:relay.example.org:5349?transport=tcp",
    ],
)
def test_addresses_that_are_taken(address: str) -> None:
    turn.check((address,))


@pytest.mark.parametrize(
    "address",
    [
        "",
        "relay.example.org",
        "turn:",
        "turn:relay:0",
        "turn:relay:65536",
        "turn:relay:port",
        "turn://relay",
        "turn:relay?transport=quic",
        "turn:user@relay",
        "turn:relay\n",
        "turn:[::1]:3478",
        "stun:relay",
        "https://relay",
        "turns:relay?transport=udp",
    ],
)
def test_addresses_that_are_refused(address: str) -> None:
    with pytest.raises(InputError, match="--turn"):
        turn.check(("turn:good", address))


def test_a_password_holds_for_a_while() -> None:
    (server,) = turn.servers(("turn:a", "turn:b?transport=tcp"), SECRET, 1_800_000_000.9)
    assert server["urls"] == ["turn:a", "turn:b?transport=tcp"]
    assert server["username"] == str(1_800_000_000 + turn.SECONDS)
    # openssl: printf 1800043200 | openssl dgst -sha1 -hmac north -binary | base64
    assert server["credential"] == "dPshDlXpQoq4gPyd8eJn9iQqydI="
    assert turn.servers((), SECRET, 0) == []


def test_the_secret_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    assert turn.secret(file, "south") == SECRET
    assert turn.secret(None, " south ") == "south"
    assert SECRET not in repr(ServerSettings(turn_secret=SECRET))


def refused(*arguments: object) -> str:
    """The one line with which ``sfumato serve`` refuses to start."""
    result = CliRunner().invoke(cli.app, ["serve", *map(str, arguments)])
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1 and not result.stdout
    return result.stderr


def test_what_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SFUMATO_TURN_SECRET", raising=False)
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.write_text(" \n")
    binary.write_bytes(b"\xff\xfe\xff")
    assert "SFUMATO_TURN_SECRET is empty" in refused("--turn", "turn:relay")
    assert "is empty: --turn needs" in refused("--turn", "turn:relay", "--turn-secret", empty)
    assert "(no text)" in refused("--turn", "turn:relay", "--turn-secret", binary)
    none = tmp_path / "none"
    assert "No such file" in refused("--turn", "turn:relay", "--turn-secret", none)
    assert "is no address of a relay" in refused("--turn", "relay", "--turn-secret", empty)
    assert "name one with --turn" in refused("--turn-secret", empty)


# The server


@pytest.fixture(scope="module", autouse=True)
def _unmeasured() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sfumato.server.house.carried", lambda avatar: 1)
        yield


def made(studio: Studio, *addresses: str, secret: str = SECRET) -> FastAPI:
    settings = ServerSettings(threads=1, size=256, turn=addresses, turn_secret=secret)
    return create_app(settings, studio)


def test_visitors_are_told(studio: Studio) -> None:
    with TestClient(made(studio, "turn:relay:3478")) as client:
        answer = client.get("/api/ice")
        (server,) = answer.json()["iceServers"]
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert not [name for name in answer.headers if name.startswith("access-control")]
        paths = client.get("/api/openapi.json").json()["paths"]
        assert "/api/ice" in paths and "requestBody" in paths["/api/live"]["post"]
    assert server["urls"] == ["turn:relay:3478"]
    assert abs(int(server["username"]) - time.time() - turn.SECONDS) < 60
    signed = hmac.new(SECRET.encode(), server["username"].encode(), hashlib.sha1).digest()
    assert base64.b64decode(server["credential"]) == signed
    with TestClient(made(studio)) as client:
        assert client.get("/api/ice").json() == {"iceServers": []}


# A real relay


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[str]:
    """coturn on this machine; its address."""
    if TURNSERVER is None:
        pytest.skip("turnserver is not installed (Debian: apt install coturn)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path / "log"
    command = [TURNSERVER, "-n", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1"]
    command += [f"--listening-port={port}", "--allow-loopback-peers", "--no-cli", "--no-tls"]
    command += ["--no-dtls", "--use-auth-secret", f"--static-auth-secret={SECRET}", "--realm=here"]
    command += [f"--userdb={tmp_path / 'users'}", f"--pidfile={tmp_path / 'pid'}"]
    command += ["--log-file=stdout", "--min-port=50000", "--max-port=50100"]
    with log.open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
    try:
        wait_for(port, log)
        yield f"turn:127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def wait_for(port: int, log: Path) -> None:
    """Until something listens there."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with socket.socket() as line:
            if line.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(log.read_text())


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_both_meet_at_the_relay(
    studio: Studio, relay: str, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfumato.server.rtc.RTCConfiguration", RELAY_ONLY)
    app = made(studio, f"{relay}?transport={transport}")
    sdp, size = asyncio.run(asyncio.wait_for(call(app), 30))
    assert size == 256
    candidates = [line for line in sdp.splitlines() if line.startswith("a=candidate")]
    assert candidates and all(" typ relay" in line for line in candidates)


def test_another_secret_opens_no_relay(
    studio: Studio, relay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfumato.server.rtc.RTCConfiguration", RELAY_ONLY)
    app = made(studio, relay, secret="south")
    sdp, _ = asyncio.run(asyncio.wait_for(call(app, watch=False), 30))
    assert "a=candidate" not in sdp


async def call(app: FastAPI, *, watch: bool = True) -> tuple[str, int]:
    """A visitor who uses nothing but the relay: the server's answer, and the side of a picture."""
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
        ice = (await client.get("/api/ice")).json()["iceServers"]
        peer = RTCPeerConnection(RELAY_ONLY(iceServers=[RTCIceServer(**s) for s in ice]))
        peer.addTransceiver("video", direction="recvonly")
        channel = peer.createDataChannel("live")
        inbox: asyncio.Queue[bytes] = asyncio.Queue()
        channel.on("message", inbox.put_nowait)
        channel.on("open", lambda: channel.send(message(Kind.HELLO, {"version": 1})))
        tracks: list[Any] = []
        peer.on("track", tracks.append)
        await peer.setLocalDescription(await peer.createOffer())
        local = peer.localDescription
        offer = {"sdp": local.sdp, "type": local.type}
        answer = (await client.post("/api/live", json=offer)).json()
    try:
        if not watch:
            await asyncio.sleep(0)  # the session begins
            return answer["sdp"], 0
        await peer.setRemoteDescription(RTCSessionDescription(**answer))
        assert (await inbox.get())[0] == Kind.HELLO
        picture = await tracks[0].recv()
        return answer["sdp"], picture.width
    finally:
        await peer.close()
        await app.state.house.close()
