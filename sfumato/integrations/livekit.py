"""LiveKit Agents: a face for the agent's voice. Needs ``pip install 'sfumato[livekit]'``.

Here the face is drawn in the agent's own process; see :mod:`sfumato.integrations.livekit_worker`
for a machine of its own. docs/integrations.md tells what to choose.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator

from livekit import rtc
from livekit.agents import AgentSession
from livekit.agents.voice.avatar import (
    AudioReceiver,
    AudioSegmentEnd,
    AvatarOptions,
    AvatarRunner,
    AvatarSession,
    QueueAudioOutput,
    VideoGenerator,
)

from sfumato.avatar import Avatar
from sfumato.controls import MotionOptions
from sfumato.integrations.talker import VOICE_RATE, Image, Talker
from sfumato.integrations.voice import Cut
from sfumato.live import LiveSession
from sfumato.pace import Quality
from sfumato.timebase import FPS

PROVIDER = "sfumato"
logger = logging.getLogger("sfumato.livekit")


class SfumatoVideoGenerator(VideoGenerator):
    """Speech in, pictures and the same speech out; what an ``AvatarRunner`` wants.

    Args:
        avatar: who speaks.
        sample_rate: of the speech that comes out. Speech of this rate passes unchanged, other is
            resampled; the face hears it at 16 kHz in any case.
        seed: of everything that chance decides.
        options: how the motion begins.

    Attributes:
        avatar_options: what the runner must be told.
    """

    def __init__(
        self,
        avatar: Avatar,
        *,
        sample_rate: int = VOICE_RATE,
        seed: int = 0,
        options: MotionOptions | None = None,
    ) -> None:
        self._talker = Talker(
            avatar, sample_rate, seed=seed, options=options, on_quality=_tell_quality
        )
        size = avatar.portrait.canvas.size
        self.avatar_options = AvatarOptions(
            video_width=size,
            video_height=size,
            video_fps=FPS,
            audio_sample_rate=sample_rate,
            audio_channels=1,
        )

    @property
    def session(self) -> LiveSession:
        """The face: ``session.steer(options)`` and ``session.show(avatar)`` work at any time."""
        return self._talker.session

    async def push_audio(self, frame: rtc.AudioFrame | AudioSegmentEnd) -> None:
        """Speech of any rate, as fast as it comes, or the end of a segment of it."""
        if isinstance(frame, AudioSegmentEnd):
            self._talker.end()
        else:
            self._talker.push(frame.data, frame.sample_rate, frame.num_channels)

    def clear_buffer(self) -> None:
        """An interruption: what was not said yet is dropped, the lips come to rest."""
        self._talker.interrupt()

    async def __aiter__(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        """25 pictures a second without end, each before its speech; to be iterated once.

        In silence there are pictures only, and a segment's end comes right after its last sample,
        so that the runner counts what was really said. Should the face fail, the voice goes on
        alone: an agent waits for the end of what it says.
        """
        try:
            async with contextlib.aclosing(self._talker.moments()) as moments:
                async for moment in moments:
                    yield _picture(moment.image)
                    # Only now: an interruption may have taken the words away meanwhile.
                    if len(moment.sound.pcm):
                        yield self._sound(moment.sound)
                    if moment.ends:
                        yield AudioSegmentEnd()
        except Exception:
            logger.exception("the face failed; the voice goes on alone")
            async with contextlib.aclosing(self._talker.alone()) as pieces:
                async for sound, ends in pieces:
                    yield self._sound(sound)
                    if ends:
                        yield AudioSegmentEnd()

    def _sound(self, cut: Cut) -> rtc.AudioFrame:
        return rtc.AudioFrame(cut.pcm.tobytes(), self._talker.rate, 1, len(cut.pcm))

    async def aclose(self) -> None:
        """End the iteration."""
        self._talker.close()


class SfumatoAvatarSession(AvatarSession):
    """A face in the agent's own process: the agent itself publishes picture and voice.

        avatar = SfumatoAvatarSession(sfumato.load(threads=2, helpers=True).avatar("me.jpg"))
        await avatar.start(session, room=ctx.room)  # before session.start
        await session.start(agent=..., room=ctx.room)

    Args:
        avatar, sample_rate, seed, options: see :class:`SfumatoVideoGenerator`.

    Attributes:
        generator: draws the face.
    """

    _room: rtc.Room | None

    def __init__(
        self,
        avatar: Avatar,
        *,
        sample_rate: int = VOICE_RATE,
        seed: int = 0,
        options: MotionOptions | None = None,
    ) -> None:
        super().__init__()
        self.generator = SfumatoVideoGenerator(
            avatar, sample_rate=sample_rate, seed=seed, options=options
        )
        self._stage: Stage | None = None

    @property
    def avatar_identity(self) -> str:
        """The agent's own: there is no other participant."""
        if self._room is None:
            raise RuntimeError("the avatar has no identity before start()")
        return str(self._room.local_participant.identity)

    @property
    def provider(self) -> str:
        """Who makes the face, in LiveKit's metrics."""
        return PROVIDER

    async def start(self, agent_session: AgentSession, room: rtc.Room) -> None:
        """Take over the agent's voice, and show the face from the moment somebody listens."""
        await super().start(agent_session, room)
        rate = self.generator.avatar_options.audio_sample_rate
        voice = QueueAudioOutput(sample_rate=rate, wait_playback_start=True)
        self._stage = Stage(room, voice, self.generator)
        await self._stage.start()
        agent_session.output.replace_audio_tail(voice)

    async def aclose(self) -> None:
        """Take the face away. The agent stays in the room."""
        if self._stage is not None:
            await self._stage.aclose()
            self._stage = None
        if self._room is not None:
            # The base class would remove the avatar's participant, and that is the agent.
            self._room.off("connection_state_changed", self._on_connection_state_changed)
            self._room = None
        await super().aclose()


class Stage:
    """An ``AvatarRunner`` and the generator that it shows, from start to end.

    Args:
        room: where to publish.
        voice: brings the agent's speech.
        generator: draws the face.
    """

    def __init__(
        self, room: rtc.Room, voice: AudioReceiver, generator: SfumatoVideoGenerator
    ) -> None:
        self._generator = generator
        self._runner = AvatarRunner(
            room, audio_recv=voice, video_gen=generator, options=generator.avatar_options
        )
        self._started = False

    async def start(self) -> None:
        """Begin to draw; returns when the speech's sender is there."""
        await self._runner.start()
        self._started = True

    async def run(self) -> None:
        """Wait until the speech or the face ends, or fails."""
        await self._runner.wait_for_complete()

    async def aclose(self) -> None:
        """End it, also when it never began."""
        await self._generator.aclose()
        if self._started:
            await self._runner.aclose()
        else:  # the runner cannot be closed then, but its clock runs
            await self._runner.av_sync.aclose()


def _picture(image: Image) -> rtc.VideoFrame:
    height, width = image.shape[:2]
    return rtc.VideoFrame(width, height, rtc.VideoBufferType.RGB24, image.tobytes())


def _tell_quality(quality: Quality) -> None:
    logger.warning("the machine's speed allows for quality: %s", quality)
