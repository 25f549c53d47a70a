"""Live sessions on a server: the WebSocket, WebRTC, and the seats for both."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfumato import provenance
from sfumato.avatar import Studio
from sfumato.media.video import VideoReader
from sfumato.protocol import Kind, Packet, content, message, to_pcm
from sfumato.timebase import SAMPLE_RATE, SAMPLES_PER_FRAME

pytest.importorskip("fastapi", reason="needs the extra: server")
pytest.importorskip("aiortc", reason="needs the extra: server")

import av  # noqa: E402
import httpx2  # noqa: E402
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription  # noqa: E402
from fastapi import FastAPI, WebSocketDisconnect  # noqa: E402
from fastapi.testclient import TestClient  # noqa: E402

from sfumato.server.app import create_app  # noqa: E402
from sfumato.server.seats import FullError, Seats, carried  # noqa: E402
from sfumato.server.settings import ServerSettings  # noqa: E402

pytestmark = pytest.mark.unit

N = SAMPLES_PER_FRAME


@pytest.fixture(scope="module")
def app(studio: Studio) -> Iterator[FastAPI]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sfumato.server.house.carried", lambda avatar: 1)
        patch.setattr("sfumato.server.seats.PATIENCE", 0.3)
        yield create_app(ServerSettings(threads=1, size=256), studio)


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


class Visit:
    """An open WebSocket."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.frames: list[Packet] = []
        self.states: list[dict[str, Any]] = []
        self.errors: list[str] = []

    def until(self, true: Callable[[Visit], object], seconds: float = 20) -> None:
        """Read until something is so."""
        end = time.monotonic() + seconds
        while not true(self):
            assert time.monotonic() < end, (self.states, self.errors, len(self.frames))
            data = self.socket.receive_bytes()
            kind, body = data[0], data[1:]
            if kind == Kind.FRAME:
                self.frames.append(Packet.unpack(body))
            elif kind == Kind.STATE:
                self.states.append(content(body))
            elif kind == Kind.ERROR:
                self.errors.append(content(body)["error"])

    def control(self, **wishes: Any) -> None:
        self.socket.send_bytes(message(Kind.CONTROL, wishes))

    def told(self, key: str) -> Any:
        """The newest state of that name, when it comes."""
        self.until(lambda v: any(key in state for state in v.states))
        return next(state[key] for state in reversed(self.states) if key in state)


@pytest.fixture
def visit(client: TestClient) -> Iterator[Visit]:
    with client.websocket_connect("/live") as socket:
        socket.send_bytes(message(Kind.HELLO, {"version": 1, "options": {"head": 0.5}}))
        hello = socket.receive_bytes()
        assert hello[0] == Kind.HELLO
        assert content(hello[1:]).items() >= {
            "version": 1, "fps": 25, "sample_rate": 16000, "samples_per_frame": 640, "size": 256,
            "latency_frames": 2, "mark": "AI-generated",
        }.items()  # fmt: skip
        yield Visit(socket)


def sound(samples: int) -> np.ndarray:
    t = np.arange(samples) / SAMPLE_RATE
    return (0.1 * np.sign(np.sin(2 * np.pi * 140 * t))).astype(np.float32)


def test_speech_comes_back_unchanged_with_pictures(visit: Visit) -> None:
    words = to_pcm(sound(4 * N + 100))
    visit.until(lambda v: v.frames)
    visit.socket.send_bytes(bytes([Kind.SPEECH]) + words[:1000])
    visit.socket.send_bytes(bytes([Kind.SPEECH]) + words[1000:])
    visit.socket.send_bytes(bytes([Kind.END]))
    visit.until(lambda v: any(f.ends for f in v.frames))
    assert [f.index for f in visit.frames] == list(range(len(visit.frames)))
    spoken = [f for f in visit.frames if f.speech]
    heard = b"".join(to_pcm(f.samples) for f in spoken)
    assert heard[: len(words)] == words
    assert not any(heard[len(words) :])
    assert visit.frames[0].picture.startswith(b"\xff\xd8")
    assert [f.ends for f in spoken] == [False] * 4 + [True]


def test_a_microphone_is_heard_and_an_interruption_silences_it(visit: Visit) -> None:
    visit.socket.send_bytes(bytes([Kind.SPEECH]) + to_pcm(sound(SAMPLE_RATE)))
    visit.until(lambda v: any(f.speech for f in v.frames))
    visit.control(interrupt=True, ping=1)
    assert visit.told("pong") == 1
    count = len(visit.frames)
    visit.until(lambda v: len(v.frames) > count + 8)
    assert not any(f.speech for f in visit.frames[count + 4 :])
    visit.socket.send_bytes(bytes([Kind.SOUND]) + to_pcm(sound(2 * N)))
    visit.until(lambda v: sum(f.speech for f in v.frames[count + 4 :]) == 2)


def test_options_and_figures(visit: Visit) -> None:
    visit.control(options={"emotion": {"happy": 0.5}, "gaze": [10, 0]})
    told = visit.told("options")
    assert (told["emotion"], told["gaze"], told["head"]) == ({"happy": 0.5}, [10, 0], 0.5)
    stats = visit.told("stats")
    assert set(stats) == {"fps", "delay_ms", "late", "waiting_s"}
    assert stats["fps"] > 1


def test_another_face_goes_on(visit: Visit, client: TestClient) -> None:
    first = client.get("/api/portraits").json()["portraits"][0]["id"]
    visit.control(portrait=first)
    assert visit.told("portrait") == first
    visit.control(portrait="nobody")
    visit.until(lambda v: v.errors)
    assert "nobody" in visit.errors[0]


def check_recording(visit: Visit, client: TestClient, folder: Path, frames: int) -> None:
    """Record so many frames and more; the file is marked, signed and whole."""
    visit.control(record=True)
    assert visit.told("recording") is True
    count = len(visit.frames)
    visit.until(lambda v: len(v.frames) > count + frames)
    visit.control(record=False)
    visit.until(lambda v: any(isinstance(s.get("recording"), dict) for s in v.states))
    told = visit.told("recording")
    file = folder / "recording.mp4"
    file.write_bytes(client.get(told["url"]).content)
    report = provenance.verify(file)
    assert report.marked and report.intact and "photo" in report.inputs
    with VideoReader(file) as reader:
        assert sum(1 for _ in reader) == round(told["seconds"] * 25) >= frames


def test_a_recording_is_marked_and_whole(visit: Visit, client: TestClient, tmp_path: Path) -> None:
    check_recording(visit, client, tmp_path, frames=10)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (bytes([Kind.SPEECH]) + b"\0", "16-bit"),
        (bytes([Kind.SOUND]) + bytes(2 * 16_001), "16001 samples"),
        (bytes([Kind.CONTROL]) + b"[]", "JSON object"),
        (bytes([Kind.CONTROL]) + b"[" * 100_000, "nested too deep"),
        (message(Kind.CONTROL, {"options": {"head": 10**400}}), "not a number"),
        (message(Kind.CONTROL, {"options": {"head": 9}}), "head"),
        (message(Kind.CONTROL, {"options": {"hat": 1}}), "hat"),
        (message(Kind.CONTROL, {"portrait": 3}), "portrait"),
        (message(Kind.CONTROL, {"say": ["no"]}), "say"),
    ],
)
def test_what_is_wrong_is_told_and_the_session_goes_on(
    visit: Visit, data: bytes, words: str
) -> None:
    visit.socket.send_bytes(data)
    visit.until(lambda v: v.errors)
    assert words in visit.errors[0] and "\n" not in visit.errors[0]
    count = len(visit.frames)
    visit.until(lambda v: len(v.frames) > count)


def test_only_so_much_is_on_its_way(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfumato.server.conversation._MOST_TASKS", 0)
    for wish in ({"say": "Hello."}, {"record": True}):
        visit.control(**wish)
        visit.until(lambda v: v.errors)
        assert "are on their way" in visit.errors.pop()


def test_unknown_kinds_and_keys_are_left_alone(visit: Visit) -> None:
    visit.socket.send_bytes(b"\xc8anything")
    visit.socket.send_bytes(b"")
    visit.control(dance=True, ping=4)
    assert visit.told("pong") == 4
    assert not visit.errors


@pytest.mark.parametrize(
    ("first", "code", "words"),
    [
        (message(Kind.HELLO, {"version": 2}), 1002, "version 2"),
        (message(Kind.CONTROL, {}), 1002, "hello"),
        (message(Kind.HELLO, {"version": 1, "portrait": "nobody"}), 4004, "nobody"),
        (message(Kind.HELLO, {"version": 1, "seed": -1}), 4000, "seed"),
        (message(Kind.HELLO, {"version": 1, "options": {"head": 7}}), 4000, "head"),
    ],
)
def test_bad_hellos_are_sent_away(client: TestClient, first: bytes, code: int, words: str) -> None:
    with (
        pytest.raises(WebSocketDisconnect) as gone,
        client.websocket_connect("/live") as socket,
    ):
        socket.send_bytes(first)
        socket.receive_bytes()
    assert gone.value.code == code
    assert words in gone.value.reason


def test_pages_of_other_hosts_are_sent_away(client: TestClient) -> None:
    with (
        pytest.raises(WebSocketDisconnect) as gone,
        client.websocket_connect("/live", headers={"origin": "https://elsewhere.example"}) as s,
    ):
        s.receive_bytes()
    assert gone.value.code in {1008, 1000, 1006}


def test_who_comes_too_late_is_refused_and_the_first_stays(
    visit: Visit, client: TestClient
) -> None:
    with (
        pytest.raises(WebSocketDisconnect) as gone,
        client.websocket_connect("/live") as socket,
    ):
        socket.receive_bytes()
    assert gone.value.code == 1013 and "taken" in gone.value.reason
    refused = client.post("/api/live", json={"sdp": "v=0", "type": "offer"})
    assert refused.status_code == 503 and "taken" in refused.json()["error"]
    count = len(visit.frames)
    visit.until(lambda v: len(v.frames) > count + 5)


def test_seats_come_back() -> None:
    seats = Seats(1)
    with seats.take(), pytest.raises(FullError), seats.take():
        pass
    with seats.take():
        assert seats.taken == 1
    assert (seats.taken, seats.refused) == (0, 1)

    async def patient() -> None:
        with seats.take():
            waiting = asyncio.create_task(seats.settle())
            await asyncio.sleep(0.01)
            assert not waiting.done()
        await asyncio.wait_for(waiting, 1)

    asyncio.run(patient())


def test_every_machine_carries_one(avatar: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfumato.server.seats._FRAMES", 5)
    assert carried(avatar) >= 1


def test_a_bad_offer_is_refused_and_gives_its_seat_back(client: TestClient) -> None:
    for _ in range(2):
        answer = client.post("/api/live", json={"sdp": "nonsense", "type": "offer"})
        assert answer.status_code == 400 and "offer" in answer.json()["error"]


def test_an_offer_is_small(client: TestClient) -> None:
    answer = client.post("/api/live", content=b" " * 70_000)
    assert answer.status_code == 413 and "at most 65536 bytes" in answer.json()["error"]


def test_recordings_of_who_leaves_come_to_their_end(client: TestClient) -> None:
    for _ in range(3):
        with client.websocket_connect("/live") as socket:
            socket.send_bytes(message(Kind.HELLO, {"version": 1}))
            visit = Visit(socket)
            for on in (True, False, True):
                visit.control(record=on)
            assert visit.told("recording") is True
            visit.control(record=False)
    end = time.monotonic() + 10
    while any(thread.name == "sfumato-recording" for thread in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_webrtc_brings_picture_and_sound(app: FastAPI) -> None:
    asyncio.run(asyncio.wait_for(_call(app), 40))


async def _call(app: FastAPI) -> None:
    """One visitor by WebRTC, from the offer to the end of a sentence."""
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    peer.addTransceiver("video", direction="recvonly")
    peer.addTransceiver("audio", direction="recvonly")
    channel = peer.createDataChannel("live")
    inbox: asyncio.Queue[bytes] = asyncio.Queue()
    channel.on("message", inbox.put_nowait)
    channel.on("open", lambda: channel.send(message(Kind.HELLO, {"version": 1})))
    tracks: dict[str, Any] = {}
    peer.on("track", lambda track: tracks.setdefault(track.kind, track))
    await peer.setLocalDescription(await peer.createOffer())
    local = peer.localDescription
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
        answer = await client.post("/api/live", json={"sdp": local.sdp, "type": local.type})
    assert answer.status_code == 200, answer.text
    await peer.setRemoteDescription(RTCSessionDescription(**answer.json()))
    try:
        hello = await inbox.get()
        assert hello[0] == Kind.HELLO
        channel.send(bytes([Kind.SPEECH]) + to_pcm(sound(SAMPLE_RATE)))
        pictures = [await tracks["video"].recv() for _ in range(5)]
        assert all(isinstance(p, av.VideoFrame) and p.width == 256 for p in pictures)
        assert np.ptp(pictures[-1].to_ndarray(format="gray")) > 100
        loud = 0.0
        while loud < 1000:  # of int16: the sentence is heard
            block = await tracks["audio"].recv()
            loud = float(np.abs(block.to_ndarray()).max())
        channel.send(message(Kind.CONTROL, {"ping": 7}))
        while content((data := await inbox.get())[1:]).get("pong") != 7:
            assert data[0] in {Kind.STATE, Kind.HELLO}
    finally:
        await peer.close()
    house = app.state.house
    for _ in range(100):
        if house.seats.taken == 0:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the seat of a visitor who left is still taken")
