"""Live sessions on a server: the WebSocket, WebRTC, and the seats for both."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sfumato import provenance
from sfumato.avatar import Studio
from sfumato.errors import SfumatoError
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
from sfumato.server.conversation import Conversation, _Tally  # noqa: E402
from sfumato.server.process import LOST  # noqa: E402
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
    assert set(stats) == {"fps", "delay_ms", "late", "waiting_s", "skipped_s"}
    assert stats["fps"] > 1 and stats["skipped_s"] == 0
    visit.socket.send_bytes(bytes([Kind.SOUND]) + to_pcm(sound(SAMPLE_RATE)))
    visit.until(lambda v: v.states[-1].get("stats", stats)["skipped_s"] > 0)
    assert visit.told("stats")["skipped_s"] == pytest.approx(0.96)


def test_a_frame_is_late_more_than_a_frame_after_its_time() -> None:
    now = 10.0
    tally = _Tally(SimpleNamespace(waiting=0.0, skipped=0.0), lambda: now)  # type: ignore[arg-type]
    frame = SimpleNamespace(fresh=True, delay=None)
    told = []
    for gap in (0.3, 0.04, 0.079, 0.081, 0.0, 0.2, 0.5):  # before the first there was none
        now += gap
        told.append(tally.after(frame))  # type: ignore[arg-type]
    assert told[:-1] == [None] * 6
    assert told[-1] is not None and told[-1]["late"] == 3


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
    lady = client.app.state.house.portraits.entry("lady").avatar  # type: ignore[attr-defined]
    assert report.marked and report.intact and report.inputs == {"photo": lady.digest}
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


class Reading:
    """A conversation whose voice and face are of paper; texts wait until they are released.

    Attributes:
        begun: texts whose synthesis began; said: texts that came to the face.
        errors: that the visitor was told.
    """

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.said: list[str] = []
        self.errors: list[str] = []
        self._released: dict[str, threading.Event] = {}
        self._texts: list[str] = []
        voices = SimpleNamespace(synthesise=self._synthesise)
        self._talk = Conversation(SimpleNamespace(voices=voices), self._send)  # type: ignore[arg-type]
        self._talk.session = SimpleNamespace(  # type: ignore[assignment]
            waiting=0.0,
            push=lambda samples, realtime: self.said.append(self._texts[int(samples[0])]),
            end_segment=lambda: None,
            interrupt=lambda: None,
        )

    async def control(self, **wishes: Any) -> None:
        await self._talk.receive(message(Kind.CONTROL, wishes))

    def release(self, text: str) -> None:
        self._released.setdefault(text, threading.Event()).set()

    async def until(self, true: Callable[[], object]) -> None:
        for _ in range(1000):
            if true():
                return
            await asyncio.sleep(0.005)
        raise AssertionError((self.begun, self.said, self.errors))

    async def idle(self) -> None:
        await self.until(lambda: not self._talk._tasks)

    def _synthesise(self, voice: str | None, text: str) -> np.ndarray:
        self.begun.append(text)
        assert self._released.setdefault(text, threading.Event()).wait(5)
        if text == "wrong":
            raise SfumatoError("no such voice")
        if text == "fault":
            raise KeyError(text)
        self._texts.append(text)
        return np.array([len(self._texts) - 1], np.float32)

    async def _send(self, data: bytes) -> None:
        if data[0] == Kind.ERROR:
            self.errors.append(content(data[1:])["error"])


def test_sentences_do_not_overtake_each_other(caplog: pytest.LogCaptureFixture) -> None:
    async def read() -> None:
        talk = Reading()
        texts = ["long", "wrong", "fault", "short", "last"]
        for text in texts[:4]:
            await talk.control(say=text)
        for text in reversed(texts):
            talk.release(text)
        await talk.control(say="last")
        await talk.idle()
        assert talk.begun == texts and talk.said == ["long", "short", "last"]
        assert talk.errors == ["no such voice", "a fault of the server: its log says more"]
        assert "KeyError: 'fault'" in caplog.text

    asyncio.run(read())


def test_an_interruption_drops_sentences_that_wait_or_are_on_their_way() -> None:
    async def read() -> None:
        for running in ("slow", "wrong"):
            talk = Reading()
            for text in (running, "next", "and next"):
                await talk.control(say=text)
            await talk.until(lambda talk=talk: talk.begun)
            await talk.control(interrupt=True, say="new")
            for text in (running, "next", "and next", "new"):
                talk.release(text)
            await talk.idle()
            assert talk.begun == [running, "new"] and talk.said == ["new"]
            assert not talk.errors  # of what nobody wants any more

    asyncio.run(read())


def test_only_so_many_sentences_wait_and_an_interruption_makes_room() -> None:
    async def read() -> None:
        talk = Reading()
        for number in range(8):
            await talk.control(say=str(number))
        assert not talk.errors
        await talk.control(say="one too many")
        assert "8 sentences and recordings are on their way" in talk.errors.pop()
        await talk.control(interrupt=True, say="new")
        assert not talk.errors
        for text in ("0", "new"):
            talk.release(text)
        await talk.idle()
        assert talk.said == ["new"]

    asyncio.run(read())


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


@pytest.mark.parametrize("greeted", [False, True])
def test_text_is_sent_away(client: TestClient, greeted: bool) -> None:
    with (
        pytest.raises(WebSocketDisconnect) as gone,
        client.websocket_connect("/live") as socket,
    ):
        if greeted:
            socket.send_bytes(message(Kind.HELLO, {"version": 1}))
        socket.send_text("hello")
        Visit(socket).until(lambda v: False, 5)
    assert gone.value.code == 1002 and "binary" in gone.value.reason


def broken(*arguments: object) -> None:
    raise KeyError("a fault")


# Where a face fails, and where what a visitor says is taken up.
FAULTS = ("sfumato.live.marked", "sfumato.server.conversation.Conversation._take")


@pytest.mark.parametrize("place", FAULTS)
def test_a_fault_ends_the_session_with_a_reason_and_frees_the_seat(
    visit: Visit,
    client: TestClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    place: str,
) -> None:
    visit.until(lambda v: v.frames)
    monkeypatch.setattr(place, broken)
    with pytest.raises(WebSocketDisconnect) as gone:
        visit.until(lambda v: v.control(ping=1), 5)  # for ever, where nobody notices
    assert (gone.value.code, gone.value.reason) == (1011, LOST)
    assert "is lost" in caplog.text and "KeyError: 'a fault'" in caplog.text
    end = time.monotonic() + 5
    while client.get("/api/ready").status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.01)


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
    assert seats.taken == 0

    async def patient() -> None:
        with seats.take():
            waiting = asyncio.create_task(seats.settle())
            await asyncio.sleep(0.01)
            assert not waiting.done()
        await asyncio.wait_for(waiting, 1)

    asyncio.run(patient())


def test_who_stops_waiting_for_a_seat_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    seats = Seats(1)

    async def impatient() -> None:
        with seats.take():
            monkeypatch.setattr("sfumato.server.seats.PATIENCE", 0.001)
            await seats.settle()
            assert not seats._waiting
            monkeypatch.setattr("sfumato.server.seats.PATIENCE", 9.0)
            waiting = asyncio.create_task(seats.settle())
            await asyncio.sleep(0)
            assert len(seats._waiting) == 1
            waiting.cancel()
            await asyncio.wait({waiting})
            assert not seats._waiting

    asyncio.run(impatient())


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


@pytest.mark.parametrize("place", FAULTS)
def test_a_fault_is_told_by_webrtc_too(
    app: FastAPI,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    place: str,
) -> None:
    async def fail() -> None:
        async with calling(app) as (channel, inbox, _):
            monkeypatch.setattr(place, broken)
            channel.send(message(Kind.CONTROL, {"ping": 1}))
            while (data := await inbox.get())[0] != Kind.ERROR:
                pass
            assert content(data[1:]) == {"error": LOST}
            await freed(app)  # the server hangs up, not the visitor

    asyncio.run(asyncio.wait_for(fail(), 20))
    assert "is lost" in caplog.text and "KeyError: 'a fault'" in caplog.text


@asynccontextmanager
async def calling(app: FastAPI) -> AsyncIterator[tuple[Any, asyncio.Queue[bytes], dict[str, Any]]]:
    """One visitor by WebRTC whose hello was answered: data channel, messages, tracks."""
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
        assert (await inbox.get())[0] == Kind.HELLO
        yield channel, inbox, tracks
    finally:
        await peer.close()


async def freed(app: FastAPI) -> None:
    """Return when the seat is free."""
    for _ in range(100):
        if app.state.house.seats.taken == 0:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the seat of a visitor who left is still taken")


async def _call(app: FastAPI) -> None:
    """One visitor by WebRTC, from the offer to the end of a sentence."""
    async with calling(app) as (channel, inbox, tracks):
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
    await freed(app)
