"""The service for Pipecat, in real pipelines of the real package."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import numpy as np
import pytest
from paper_face import SIDE, PaperAvatar, paper_avatar

pytest.importorskip("pipecat", reason="needs the pipecat extra")

from loguru import logger
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    MetricsFrame,
    OutputAudioRawFrame,
    OutputImageRawFrame,
    ServiceUpdateSettingsFrame,
    StartFrame,
    TextFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.metrics.metrics import TTFBMetricsData
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams
from pipecat.processors.frame_processor import FrameDirection
from pipecat.tests.utils import SleepFrame, run_test
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams

from sfumato.avatar import Avatar
from sfumato.controls import MotionOptions
from sfumato.integrations.pipecat import SfumatoVideoService, SfumatoVideoSettings

pytestmark = pytest.mark.unit

RATE = 24_000
BEAT = RATE // 25


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 40))


def tone(samples: int, pitch: float = 220.0, rate: int = RATE) -> np.ndarray:
    return (8000 * np.sin(2 * np.pi * pitch * np.arange(samples) / rate)).astype(np.int16)


def speech(pcm: np.ndarray, context: str = "a", rate: int = RATE) -> list[Frame]:
    """In tenths of a second, between the marks of its beginning and its end."""
    parts = [pcm[i : i + rate // 10] for i in range(0, len(pcm), rate // 10)]
    return [
        TTSStartedFrame(context_id=context),
        *[TTSAudioRawFrame(part.tobytes(), rate, 1, context_id=context) for part in parts],
        TTSStoppedFrame(context_id=context),
    ]


def through(
    service: SfumatoVideoService, frames: list[Frame], **options: Any
) -> tuple[Sequence[Frame], Sequence[Frame]]:
    """What leaves the service, downstream and upstream."""
    return run(run_test(service, frames_to_send=frames, **options))  # type: ignore[no-any-return]


def sound(frames: Sequence[Frame]) -> np.ndarray:
    parts = [np.frombuffer(f.audio, np.int16) for f in frames if isinstance(f, TTSAudioRawFrame)]
    return np.concatenate([np.zeros(0, np.int16), *parts])


def kinds(frames: Sequence[Frame]) -> list[type]:
    return [type(frame) for frame in frames if not isinstance(frame, OutputImageRawFrame)]


def is_loud(frame: Frame) -> bool:
    return isinstance(frame, OutputImageRawFrame) and frame.image[SIDE * SIDE * 3 // 2] > 20


def test_a_real_face_speaks_and_comes_to_its_end(avatar: Avatar) -> None:
    words = tone(RATE // 4 + 100)
    down, up = through(SfumatoVideoService(avatar=avatar), speech(words))
    pictures = [frame for frame in down if isinstance(frame, OutputImageRawFrame)]
    assert {(p.size, p.format, p.sync_with_audio) for p in pictures} == {((256, 256), "RGB", True)}
    assert len({p.image for p in pictures}) > 5  # it moves
    assert np.array_equal(sound(down), words)
    assert not up


def test_sound_leaves_behind_its_picture_and_marks_keep_their_place() -> None:
    service = SfumatoVideoService(avatar=paper_avatar()[0])
    text = TextFrame("said")
    first, second = speech(tone(4 * BEAT), "a"), speech(tone(3 * BEAT + 10, 330), "b")
    down, _ = through(service, [*first[:-1], text, first[-1], *second, LLMFullResponseEndFrame()])
    assert kinds(down) == [
        TTSStartedFrame,
        *[TTSAudioRawFrame] * 4,
        TextFrame,
        TTSStoppedFrame,
        TTSStartedFrame,
        *[TTSAudioRawFrame] * 4,
        TTSStoppedFrame,
        LLMFullResponseEndFrame,
    ]
    audio = [frame for frame in down if isinstance(frame, TTSAudioRawFrame)]
    assert [frame.context_id for frame in audio] == ["a"] * 4 + ["b"] * 4
    assert [frame.num_frames for frame in audio] == [BEAT] * 4 + [BEAT] * 3 + [10]
    for before, frame in zip(down, down[1:], strict=False):
        if isinstance(frame, TTSAudioRawFrame) and frame.num_frames == BEAT:
            assert is_loud(before)


def test_speech_of_another_rate_leaves_with_the_pipelines() -> None:
    service = SfumatoVideoService(avatar=paper_avatar()[0])
    down, _ = through(
        service,
        speech(tone(22_050 // 2, rate=22_050), rate=22_050),
        pipeline_params=PipelineParams(audio_out_sample_rate=16_000),
    )
    assert {f.sample_rate for f in down if isinstance(f, TTSAudioRawFrame)} == {16_000}
    assert abs(len(sound(down)) - 8000) <= 2
    inner = slice(100, 7900)
    assert np.abs(sound(down)[inner] - tone(8000, rate=16_000)[inner]).max() < 150


def test_what_is_no_speech_passes_at_once_and_unchanged() -> None:
    service = SfumatoVideoService(avatar=paper_avatar()[0])
    others: list[Frame] = [TextFrame("x"), OutputAudioRawFrame(b"\0\0", RATE, 1)]
    down, _ = through(service, others)
    assert [frame for frame in down if not isinstance(frame, OutputImageRawFrame)] == others
    up = TextFrame("back")
    _, ups = through(
        SfumatoVideoService(avatar=paper_avatar()[0]),
        [up],
        frames_to_send_direction=FrameDirection.UPSTREAM,
    )
    assert list(ups) == [up]


def test_a_frame_with_a_time_is_left_to_the_transport() -> None:
    service = SfumatoVideoService(avatar=paper_avatar()[0])
    timed = TextFrame("word")
    timed.pts = 1
    words = speech(tone(RATE // 4))
    down, _ = through(service, [*words[:-1], timed, words[-1]])
    assert kinds(down)[:2] == [TTSStartedFrame, TextFrame]


def test_an_interruption_silences_at_once_and_loses_nothing_that_must_not_be_lost() -> None:
    service = SfumatoVideoService(avatar=paper_avatar()[0])
    must = TextFrame("must arrive")
    must.interruptible = False
    answer = tone(RATE // 5, 500)
    down, _ = through(
        service,
        [
            *speech(tone(5 * RATE)),
            TextFrame("lost"),
            must,
            SleepFrame(0.8),
            InterruptionFrame(),
            SleepFrame(0.1),
            *speech(answer, "b"),
        ],
    )
    order = kinds(down)
    cut = order.index(InterruptionFrame)
    assert order[cut - 1] == TTSAudioRawFrame
    assert order[cut + 1 : cut + 3] == [TextFrame, TTSStartedFrame]
    assert [f for f in down if isinstance(f, TextFrame)] == [must]
    assert order.count(TTSStoppedFrame) == 1
    assert np.array_equal(sound(down)[-len(answer) :], answer)
    assert 0 < len(sound(down)) - len(answer) < RATE


def test_words_that_must_be_said_are_said() -> None:
    service = SfumatoVideoService(avatar=paper_avatar()[0])
    words = speech(tone(RATE // 2))
    for frame in words:
        frame.interruptible = False
    down, _ = through(service, [*words, SleepFrame(0.3), InterruptionFrame()])
    assert len(sound(down)) == RATE // 2
    audio = [frame for frame in down if isinstance(frame, TTSAudioRawFrame)]
    assert not any(frame.interruptible for frame in audio)
    assert kinds(down)[-1] == TTSStoppedFrame


def test_pictures_come_in_silence_and_end_with_the_pipeline() -> None:
    service = SfumatoVideoService(avatar=paper_avatar()[0])
    down, _ = through(service, [SleepFrame(0.5)])
    assert len(down) >= 5
    assert kinds(down) == []
    with pytest.raises(RuntimeError, match="not yet, or gone"):
        _ = service.session
    run(service.cleanup())  # once more is nothing


def test_the_way_it_moves_is_a_setting() -> None:
    calm, glad = MotionOptions(head=0.5), MotionOptions(emotion={"happy": 0.8})
    face, paper = paper_avatar()
    seen: list[MotionOptions] = []

    class Watched(SfumatoVideoService):
        async def stop(self, frame: EndFrame) -> None:
            seen.append(paper.last.options.at(60.0))
            await super().stop(frame)

    service = Watched(avatar=face, settings=SfumatoVideoSettings(options=calm))
    other = ServiceUpdateSettingsFrame(delta=None)
    down, _ = through(
        service,
        [
            other,
            ServiceUpdateSettingsFrame(delta=SfumatoVideoSettings(options=glad), service=service),
            SleepFrame(0.3),
        ],
    )
    assert seen == [glad]
    assert service.settings.options == glad
    assert [frame for frame in down if not isinstance(frame, OutputImageRawFrame)] == [other]


def test_the_time_to_the_first_picture_is_measured() -> None:
    service = SfumatoVideoService(avatar=paper_avatar()[0])
    down, _ = through(
        service,
        [SleepFrame(0.3), *speech(tone(RATE // 4))],
        pipeline_params=PipelineParams(enable_metrics=True),
    )
    found = [
        data.value
        for frame in down
        if isinstance(frame, MetricsFrame)
        for data in frame.data
        if isinstance(data, TTFBMetricsData) and data.value
    ]
    assert len(found) == 1
    assert 0.05 < found[0] < 2


def test_the_voice_goes_on_when_the_face_fails() -> None:
    face, paper = paper_avatar()
    words, more = tone(RATE), tone(RATE // 5, 500)
    paper_fails = [*speech(words), SleepFrame(0.4), Fail(paper), SleepFrame(0.3), *speech(more)]
    down, up = through(SfumatoVideoService(avatar=face), paper_fails)
    assert np.array_equal(sound(down), np.concatenate([words, more]))
    assert kinds(down).count(TTSStoppedFrame) == 2
    assert any("the face failed" in frame.error for frame in up if isinstance(frame, ErrorFrame))


class Fail(SleepFrame):
    """Tears the paper at its place among the frames that are sent."""

    def __init__(self, paper: PaperAvatar) -> None:
        super().__init__()
        self.paper = paper

    @property
    def sleep(self) -> float:  # type: ignore[override]
        self.paper.last.fails = True
        return 0.0

    @sleep.setter
    def sleep(self, value: float) -> None:
        pass


class Screen(BaseOutputTransport):
    """An output transport in its real form, with a loudspeaker's pace in place of a network."""

    def __init__(self, **params: Any) -> None:
        usual: dict[str, Any] = {
            "audio_out_enabled": True,
            "audio_out_end_silence_secs": 0,
            "video_out_enabled": True,
            "video_out_width": SIDE,
            "video_out_height": SIDE,
        }
        super().__init__(TransportParams(**(usual | params)))
        self.seen: list[tuple[str, float]] = []

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_video_frame(self, frame: OutputImageRawFrame) -> bool:
        self.seen.append(("loud" if is_loud(frame) else "still", 0.0))
        return True

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        seconds = frame.num_frames / frame.sample_rate
        self.seen.append(("sound", seconds))
        await asyncio.sleep(seconds)
        return True


def test_a_transport_shows_lips_while_their_sound_plays() -> None:
    """The mode that the service counts on: images wait for the sound before them."""
    screen = Screen()
    pipeline = Pipeline([SfumatoVideoService(avatar=paper_avatar()[0]), screen])
    down, up = run(run_test(pipeline, frames_to_send=[SleepFrame(0.3), *speech(tone(25 * BEAT))]))
    assert sum(seconds for kind, seconds in screen.seen if kind == "sound") == pytest.approx(1.0)
    whole = [kind for kind, _ in screen.seen]
    first, last = whole.index("sound"), len(whole) - whole[::-1].index("sound")
    during = whole[first:last]
    assert during.count("loud") >= 15
    assert during.count("still") <= 3
    assert "loud" not in whole[: max(first - 1, 0)]
    assert {BotStartedSpeakingFrame, BotStoppedSpeakingFrame} <= set(kinds(up))


@pytest.mark.parametrize("params", [{"video_out_is_live": True}, {"video_out_enabled": False}])
def test_a_transport_that_would_show_nothing_is_told_of(params: dict[str, bool]) -> None:
    said: list[str] = []
    sink = logger.add(said.append, level="ERROR", format="{message}")
    pipeline = Pipeline([SfumatoVideoService(avatar=paper_avatar()[0]), Screen(**params)])
    run(run_test(pipeline, frames_to_send=[]))
    logger.remove(sink)
    assert len(said) == 1
    assert "no face will be seen" in said[0]
