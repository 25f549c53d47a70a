"""The plug-in for LiveKit Agents, against the real package; only the network is not there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from paper_face import SIDE, paper_avatar

pytest.importorskip("livekit.agents", reason="needs the livekit extra")

import jwt
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from fake_livekit import FakeRoom, Hub
from livekit import rtc
from livekit.agents import Agent, AgentSession
from livekit.agents.voice.avatar import AudioSegmentEnd, DataStreamAudioOutput, QueueAudioOutput

from sfumato.avatar import Avatar
from sfumato.controls import MotionOptions
from sfumato.errors import InputError
from sfumato.integrations import livekit_worker
from sfumato.integrations.livekit import SfumatoAvatarSession, SfumatoVideoGenerator, Stage
from sfumato.integrations.livekit_worker import SfumatoWorkerSession, perform, worker

pytestmark = pytest.mark.unit

RATE = 24_000
Item = rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 30))


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to that")


def tone(samples: int, pitch: float = 220.0, rate: int = RATE) -> np.ndarray:
    return (8000 * np.sin(2 * np.pi * pitch * np.arange(samples) / rate)).astype(np.int16)


def frames(pcm: np.ndarray, rate: int = RATE) -> list[rtc.AudioFrame]:
    """In tenths of a second, as agents send them."""
    parts = [pcm[i : i + rate // 10] for i in range(0, len(pcm), rate // 10)]
    return [rtc.AudioFrame(part.tobytes(), rate, 1, len(part)) for part in parts]


def sound(items: list[Any]) -> np.ndarray:
    parts = [np.array(item.data) for item in items if isinstance(item, rtc.AudioFrame)]
    return np.concatenate([np.zeros(0, np.int16), *parts])


def is_loud(item: Item) -> bool:
    return isinstance(item, rtc.VideoFrame) and bytes(item.data)[SIDE * SIDE * 3 // 2] > 20


class Caught(list[Any]):
    """All that reaches LiveKit's sources, in order."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        super().__init__()
        show, play = rtc.VideoSource.capture_frame, rtc.AudioSource.capture_frame

        def shown(source: rtc.VideoSource, frame: rtc.VideoFrame) -> None:
            self.append(frame)
            show(source, frame)

        async def played(source: rtc.AudioSource, frame: rtc.AudioFrame) -> None:
            self.append(frame)
            await play(source, frame)

        patch.setattr(rtc.VideoSource, "capture_frame", shown)
        patch.setattr(rtc.AudioSource, "capture_frame", played)


@pytest.fixture
def caught(monkeypatch: pytest.MonkeyPatch) -> Caught:
    return Caught(monkeypatch)


async def generated(generator: SfumatoVideoGenerator, count: int) -> list[Item]:
    items: list[Item] = []
    async for item in generator:
        items.append(item)
        if sum(isinstance(item, rtc.VideoFrame) for item in items) == count:
            await generator.aclose()
    return items


def test_a_real_face_says_a_segment_and_tells_its_end(avatar: Avatar) -> None:
    words = tone(RATE // 4 + 100)

    async def main() -> list[Item]:
        generator = SfumatoVideoGenerator(avatar)
        options = generator.avatar_options
        assert (options.video_width, options.video_height, options.video_fps) == (256, 256, 25)
        assert (options.audio_sample_rate, options.audio_channels) == (RATE, 1)
        for frame in frames(words):
            await generator.push_audio(frame)
        await generator.push_audio(AudioSegmentEnd())
        return await generated(generator, 14)

    items = run(main())
    pictures = [item for item in items if isinstance(item, rtc.VideoFrame)]
    assert {(p.width, p.height, p.type) for p in pictures} == {
        (256, 256, rtc.VideoBufferType.RGB24)
    }
    assert len({bytes(p.data) for p in pictures}) > 5  # it moves
    assert np.array_equal(sound(items), words)
    last = max(n for n, item in enumerate(items) if isinstance(item, rtc.AudioFrame))
    assert isinstance(items[last + 1], AudioSegmentEnd)
    assert sum(isinstance(item, AudioSegmentEnd) for item in items) == 1


def test_every_piece_of_sound_follows_its_picture() -> None:
    async def main() -> list[Item]:
        generator = SfumatoVideoGenerator(paper_avatar()[0])
        for pitch in (220, 330):
            for frame in frames(tone(RATE // 5, pitch)):
                await generator.push_audio(frame)
            await generator.push_audio(AudioSegmentEnd())
        return await generated(generator, 20)

    items = run(main())
    for before, item in zip(items, items[1:], strict=False):
        assert isinstance(item, rtc.AudioFrame) == is_loud(before)
        if isinstance(item, rtc.AudioFrame):
            assert item.samples_per_channel == RATE // 25
    assert sum(isinstance(item, AudioSegmentEnd) for item in items) == 2


def test_speech_of_another_kind_is_brought_to_the_kind_that_was_announced() -> None:
    left = tone(44_100 // 2, rate=44_100)
    both = np.stack([left, left], axis=1)

    async def main() -> list[Item]:
        generator = SfumatoVideoGenerator(paper_avatar()[0], sample_rate=16_000)
        await generator.push_audio(rtc.AudioFrame(both.tobytes(), 44_100, 2, len(left)))
        await generator.push_audio(AudioSegmentEnd())
        return await generated(generator, 20)

    items = run(main())
    assert {i.sample_rate for i in items if isinstance(i, rtc.AudioFrame)} == {16_000}
    assert abs(len(sound(items)) - 8000) <= 2
    inner = slice(100, 7900)
    assert np.abs(sound(items)[inner] - tone(8000, rate=16_000)[inner]).max() < 150


def test_an_end_without_speech_ends_nothing() -> None:
    async def main() -> list[Item]:
        generator = SfumatoVideoGenerator(paper_avatar()[0])
        await generator.push_audio(AudioSegmentEnd())
        for frame in frames(tone(RATE)):
            await generator.push_audio(frame)
        generator.clear_buffer()
        await generator.push_audio(AudioSegmentEnd())  # the receiver sends it after all
        return await generated(generator, 8)

    items = run(main())
    assert all(isinstance(item, rtc.VideoFrame) for item in items)


def ends(items: list[Item]) -> int:
    return sum(isinstance(item, AudioSegmentEnd) for item in items)


def test_the_voice_goes_on_when_the_face_fails(caplog: pytest.LogCaptureFixture) -> None:
    words, more = tone(RATE), tone(RATE // 5 + 7, 500)

    async def main() -> list[Item]:
        face, paper = paper_avatar()
        generator = SfumatoVideoGenerator(face)
        items: list[Item] = []

        async def take() -> None:
            async for item in generator:
                items.append(item)

        taking = asyncio.create_task(take())
        for frame in frames(words):
            await generator.push_audio(frame)
        await generator.push_audio(AudioSegmentEnd())
        await until(lambda: any(isinstance(item, rtc.AudioFrame) for item in items))
        paper.last.fails = True
        await until(lambda: ends(items) == 1)
        for frame in frames(more):
            await generator.push_audio(frame)
        await generator.push_audio(AudioSegmentEnd())
        await until(lambda: ends(items) == 2)
        await generator.aclose()
        await taking
        return items

    items = run(main())
    assert np.array_equal(sound(items), np.concatenate([words, more]))
    assert isinstance(items[-1], AudioSegmentEnd)
    assert "the face failed" in caplog.text
    assert "torn" in caplog.text


class Played:
    """Playback as the agent sees it."""

    def __init__(self, output: Any) -> None:
        self.started = 0
        self.finished: list[Any] = []
        output.on("playback_started", self._started)
        output.on("playback_finished", self.finished.append)

    def _started(self, _event: Any) -> None:
        self.started += 1


async def say(output: Any, pcm: np.ndarray) -> None:
    for frame in frames(pcm):
        await output.capture_frame(frame)
    output.flush()


def test_the_runner_plays_segments_and_counts_them(caught: Caught) -> None:
    words = [tone(RATE // 2 + 123), tone(RATE // 4, 330)]

    async def main() -> Played:
        hub = Hub()
        room = FakeRoom(hub, "agent")
        await room.connect("", "")
        output = QueueAudioOutput(sample_rate=RATE, wait_playback_start=True)
        stage = Stage(room, output, SfumatoVideoGenerator(paper_avatar()[0]))
        played = Played(output)
        await stage.start()
        for pcm in words:
            await say(output, pcm)
            await output.wait_for_playout()
        tracks = room.local_participant.track_publications
        assert list(tracks) == ["avatar_audio", "avatar_video"]
        await stage.aclose()
        return played

    played = run(main())
    assert played.started == 2
    assert [event.interrupted for event in played.finished] == [False, False]
    positions = [event.playback_position for event in played.finished]
    assert positions == pytest.approx([len(pcm) / RATE for pcm in words])
    assert np.array_equal(sound(caught), np.concatenate(words))


def test_an_interruption_stops_the_voice_and_the_next_words_are_whole(caught: Caught) -> None:
    answer = tone(RATE // 4, 500)

    async def main() -> Played:
        room = FakeRoom(Hub(), "agent")
        await room.connect("", "")
        output = QueueAudioOutput(sample_rate=RATE, wait_playback_start=True)
        stage = Stage(room, output, SfumatoVideoGenerator(paper_avatar()[0]))
        played = Played(output)
        await stage.start()
        await say(output, tone(5 * RATE))
        await until(lambda: len(sound(caught)) >= RATE // 4)
        output.clear_buffer()
        await output.wait_for_playout()
        await say(output, answer)
        await output.wait_for_playout()
        await stage.aclose()
        return played

    played = run(main())
    cut, whole = played.finished
    assert cut.interrupted
    assert not whole.interrupted
    said = len(sound(caught)) - len(answer)
    # A frame that was just being played is counted after the interruption: LiveKit's own way.
    assert abs(whole.playback_position - len(answer) / RATE) < 0.041
    assert abs(said / RATE - cut.playback_position) < 0.041
    assert RATE // 4 <= said < RATE // 2
    assert np.array_equal(sound(caught)[said:], answer)


def test_an_agents_session_speaks_with_the_face_in_its_own_process(caught: Caught) -> None:
    words = tone(RATE // 2)

    async def speech() -> AsyncIterator[rtc.AudioFrame]:
        for frame in frames(words):
            yield frame

    async def main() -> None:
        room = FakeRoom(Hub(), "agent")
        await room.connect("", "")
        session: AgentSession = AgentSession()
        avatar = SfumatoAvatarSession(paper_avatar()[0], options=MotionOptions(head=0.5))
        with pytest.raises(RuntimeError, match="before start"):
            _ = avatar.avatar_identity
        await avatar.start(session, room)
        assert avatar.avatar_identity == "agent"
        assert avatar.generator.session.options.head == 0.5
        await session.start(Agent(instructions=""))
        handle = session.say("hello", audio=speech())
        await handle.wait_for_playout()
        assert not handle.interrupted
        await avatar.wait_for_join(timeout=5)
        await avatar.aclose()
        await avatar.aclose()  # twice is once
        assert room.isconnected()
        assert set(room.hub.rooms) == {"agent"}
        await session.aclose()

    run(main())
    assert np.array_equal(sound(caught), words)


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEKIT_URL", "ws://localhost:7880")
    monkeypatch.setenv("LIVEKIT_API_KEY", "key")
    monkeypatch.setenv("LIVEKIT_API_SECRET", "secret that is long enough for a signature")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Where rooms that the worker makes lead to; who joins is what the token says."""
    hub = Hub()

    class TokenRoom(FakeRoom):
        def __init__(self) -> None:
            super().__init__(hub, "")

        async def connect(self, url: str, token: str) -> None:
            claims = jwt.decode(token, options={"verify_signature": False})
            assert claims["kind"] == "agent"
            assert claims["video"]["roomJoin"]
            assert claims["video"]["room"] == self.name
            self.identity = self.local_participant.identity = claims["sub"]
            self.local_participant.attributes = claims["attributes"]
            await super().connect(url, token)

    monkeypatch.setattr(livekit_worker.rtc, "Room", TokenRoom)
    return hub


@pytest.mark.usefixtures("keys")
def test_a_worker_is_the_face_until_the_agent_goes(caught: Caught, hub: Hub) -> None:
    words = tone(RATE // 2 + 50)

    async def main() -> None:
        server = TestServer(worker(paper_avatar()[0]))
        await server.start_server()
        room = FakeRoom(hub, "agent")
        await room.connect("", "")
        session: AgentSession = AgentSession()
        avatar = SfumatoWorkerSession(str(server.make_url("/")))
        await avatar.start(session, room)
        output = session.output.audio
        assert isinstance(output, DataStreamAudioOutput)
        played = Played(output)
        await say(output, words)
        await output.wait_for_playout()
        await avatar.wait_for_join(timeout=5)
        assert played.finished[0].playback_position == pytest.approx(len(words) / RATE)
        await say(output, tone(5 * RATE))
        await until(lambda: len(sound(caught)) >= len(words) + RATE // 4)
        output.clear_buffer()
        await output.wait_for_playout()
        assert played.finished[1].interrupted
        assert played.finished[1].playback_position < 1
        assert played.started == 2
        with pytest.raises(InputError, match="all places are taken"):
            await SfumatoWorkerSession(str(server.make_url("/"))).start(session, room)
        await room.disconnect()
        await until(lambda: "sfumato-avatar" not in hub.rooms)
        await avatar.aclose()
        await server.close()

    run(main())
    assert np.array_equal(sound(caught)[: len(words)], words)


@pytest.mark.usefixtures("keys")
def test_a_worker_that_stops_leaves_its_rooms(hub: Hub) -> None:
    async def main() -> None:
        server = TestServer(worker(paper_avatar()[0]))
        await server.start_server()
        room = FakeRoom(hub, "agent")
        await room.connect("", "")
        avatar = SfumatoWorkerSession(str(server.make_url("/")))
        await avatar.start(AgentSession(), room)
        await until(lambda: "sfumato-avatar" in hub.rooms)
        await avatar.aclose()
        await server.close()
        assert set(hub.rooms) == {"agent"}

    run(main())


def test_a_worker_leaves_with_the_room(hub: Hub, keys: None) -> None:
    async def main() -> None:
        room = FakeRoom(hub, "agent")
        await room.connect("", "")
        token = SfumatoWorkerSession("")._token(room.name, "agent")
        performing = asyncio.create_task(perform(paper_avatar()[0], "", token))
        await until(lambda: "sfumato-avatar" in hub.rooms)
        await asyncio.sleep(0.2)
        assert not performing.done()
        hub.rooms["sfumato-avatar"].throw_out()
        await performing

    run(main())


def test_a_face_waits_for_its_agent_only_so_long(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, keys: None
) -> None:
    monkeypatch.setattr(livekit_worker, "_AGENT_SECONDS", 0.1)
    token = SfumatoWorkerSession("")._token("stage", "late")
    with pytest.raises(asyncio.TimeoutError):
        run(perform(paper_avatar()[0], "ws://localhost:7880", token))
    assert not hub.rooms


def test_what_a_worker_refuses() -> None:
    async def main() -> list[int]:
        server = TestServer(worker(paper_avatar()[0], places=0))
        await server.start_server()
        async with ClientSession() as client:
            answers = [
                await client.post(server.make_url("/rooms"), data=b"{"),
                await client.post(server.make_url("/rooms"), json=["url"]),
                await client.post(server.make_url("/rooms"), json={"url": "a", "token": "b"}),
                await client.get(server.make_url("/")),
            ]
            assert await answers[-1].json() == {"places": 0, "free": 0}
        await server.close()
        return [answer.status for answer in answers]

    assert run(main()) == [400, 400, 503, 200]


def test_what_is_missing_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, keys: None) -> None:
    async def start(address: str) -> None:
        room = FakeRoom(Hub(), "agent")
        await room.connect("", "")
        await SfumatoWorkerSession(address).start(AgentSession(), room)

    with pytest.raises(InputError, match="no avatar worker answers at http://127.0.0.1:9"):
        run(start("http://127.0.0.1:9"))
    monkeypatch.delenv("LIVEKIT_API_SECRET")
    with pytest.raises(InputError, match="LIVEKIT_API_SECRET"):
        run(start("http://127.0.0.1:9"))
    monkeypatch.delenv("LIVEKIT_URL")
    with pytest.raises(InputError, match="LIVEKIT_URL is not set"):
        run(start("http://127.0.0.1:9"))
