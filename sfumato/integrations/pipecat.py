"""Pipecat: a face in the pipeline, behind the voice. Needs ``pip install 'sfumato[pipecat]'``.

    Pipeline([..., tts, SfumatoVideoService(avatar=avatar), transport.output(), ...])

docs/integrations.md tells how the transport must be set.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from loguru import logger
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    OutputImageRawFrame,
    ServiceUpdateSettingsFrame,
    StartFrame,
    SystemFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessorSetup
from pipecat.services.ai_service import AIService
from pipecat.services.settings import ServiceSettings
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.utils.types import NOT_GIVEN, NotGiven

from sfumato.avatar import Avatar
from sfumato.controls import MotionOptions
from sfumato.integrations.talker import Image, Talker
from sfumato.integrations.voice import Cut
from sfumato.live import LiveSession
from sfumato.pace import Quality

_PATIENCE = 5.0  # seconds beyond the speech that waits, before the end comes anyway


@dataclass
class SfumatoVideoSettings(ServiceSettings):
    """What may change while the pipeline runs.

    Attributes:
        options: how the face moves; taken up within 0.3 s.
    """

    options: MotionOptions | NotGiven = field(default_factory=lambda: NOT_GIVEN)


class _Origin(NamedTuple):
    """What a frame of speech was besides its sound; what comes out is the same."""

    context_id: str | None
    interruptible: bool
    destination: str | None


class SfumatoVideoService(AIService):
    """Takes the voice's sound, gives it back with pictures to it.

    The pictures are tied to the sound (``sync_with_audio``), which transports understand as long
    as ``video_out_is_live`` is off, its default. What follows a sentence through the pipeline
    still follows it when the face says it at its own pace.

    Args:
        avatar: who speaks.
        seed: of everything that chance decides.
        settings: how the motion begins.
    """

    Settings = SfumatoVideoSettings
    _settings: SfumatoVideoSettings

    def __init__(
        self,
        *,
        avatar: Avatar,
        seed: int = 0,
        settings: SfumatoVideoSettings | None = None,
        **kwargs: Any,
    ) -> None:
        store = SfumatoVideoSettings(model=None, options=MotionOptions())
        if settings is not None:
            store.apply_update(settings)
        super().__init__(settings=store, **kwargs)
        self._avatar = avatar
        self._seed = seed
        self._talker: Talker | None = None
        self._pump: asyncio.Task[None] | None = None

    @property
    def session(self) -> LiveSession:
        """The face, once the pipeline is set up: ``session.show(avatar)`` works at any time."""
        if self._talker is None:
            raise RuntimeError("the face comes with the pipeline: not yet, or gone")
        return self._talker.session

    def can_generate_metrics(self) -> bool:
        """Time from the first sound of a sentence to the first picture that speaks it."""
        return True

    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]
        """Make the face; the voice goes out with the pipeline's rate."""
        await super().setup(setup)
        options = self._settings.options
        self._talker = Talker(
            self._avatar,
            setup.audio_out_sample_rate,
            seed=self._seed,
            options=options if isinstance(options, MotionOptions) else None,
            on_quality=self._tell_quality,
        )

    async def stop(self, frame: EndFrame) -> None:
        """Say what is left to say, then go."""
        await super().stop(frame)
        if self._talker is not None:
            self._talker.end()
            patience = self._talker.session.waiting + _PATIENCE
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._talker.drained(), patience)
        await self._tear_down()

    async def cancel(self, frame: CancelFrame) -> None:
        """Go at once."""
        await super().cancel(frame)
        await self._tear_down()

    async def cleanup(self) -> None:
        """Go, if that was not done yet."""
        await super().cleanup()
        await self._tear_down()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Take sound; let everything else pass, in its place."""
        await super().process_frame(frame, direction)
        if isinstance(frame, StartFrame):
            await self.push_frame(frame, direction)
            self._check_transport()
            if self._talker is not None and self._pump is None:
                self._pump = self.create_task(self._show(self._talker))
        elif isinstance(frame, InterruptionFrame):
            spared = self._interrupt()
            await self.push_frame(frame, direction)
            for other in spared:
                await self.push_frame(other)
        elif direction == FrameDirection.UPSTREAM or isinstance(frame, SystemFrame):
            await self.push_frame(frame, direction)
        elif isinstance(frame, ServiceUpdateSettingsFrame) and self._is_meant(frame):
            if isinstance(frame.delta, SfumatoVideoSettings):
                await self._update_settings(frame.delta)
        elif isinstance(frame, TTSAudioRawFrame) and self._talker is not None:
            await self._speak(self._talker, frame)
        elif self._talker is None or not self._keep(self._talker, frame):
            await self.push_frame(frame, direction)

    async def _update_settings(self, delta: ServiceSettings) -> dict[str, Any]:
        changed: dict[str, Any] = await super()._update_settings(delta)
        options = self._settings.options
        if "options" in changed and self._talker and isinstance(options, MotionOptions):
            self._talker.session.steer(options)
        return changed

    def _check_transport(self) -> None:
        """Say so where nothing will be seen: transports are silent about it."""
        stage = self.next
        while stage is not None:
            if isinstance(stage, BaseOutputTransport):
                params = stage._params
                if params.video_out_is_live or not params.video_out_enabled:
                    logger.error(
                        f"{self}: no face will be seen: TransportParams want "
                        "video_out_enabled=True and video_out_is_live=False"
                    )
            stage = stage.next

    def _is_meant(self, frame: ServiceUpdateSettingsFrame[Any]) -> bool:
        return frame.service is self or (
            frame.service is None and isinstance(frame.delta, SfumatoVideoSettings)
        )

    async def _speak(self, talker: Talker, frame: TTSAudioRawFrame) -> None:
        if not talker.busy:
            await self.start_ttfb_metrics()
        origin = _Origin(frame.context_id, frame.interruptible, frame.transport_destination)
        talker.push(frame.audio, frame.sample_rate, frame.num_channels, origin)

    def _keep(self, talker: Talker, frame: Frame) -> bool:
        """Whether a frame waits for the sound before it; one with a time does so elsewhere."""
        if isinstance(frame, TTSStoppedFrame):
            talker.end()
        return not frame.pts and talker.mark(frame)

    def _interrupt(self) -> list[Frame]:
        """Fall silent, unless the words must be said; returns frames that must not be lost."""
        if self._talker is None or not all(origin[1] for origin in self._talker.origins):
            return []
        return [frame for frame in self._talker.interrupt() if not frame.interruptible]

    async def _show(self, talker: Talker) -> None:
        try:
            async with contextlib.aclosing(talker.moments()) as moments:
                async for moment in moments:
                    await self.push_frame(_image(moment.image))
                    await self._push_sound(talker.rate, moment.sound)
        except Exception as error:
            self._talker = None
            await self.push_error("the face failed; the voice goes on alone", exception=error)
            for sound in talker.rest():
                await self._push_sound(talker.rate, sound)

    async def _push_sound(self, rate: int, sound: Cut) -> None:
        if len(sound.pcm):
            frame = TTSAudioRawFrame(sound.pcm.tobytes(), rate, 1)
            frame.context_id, frame.interruptible, frame.transport_destination = sound.origin
            await self.push_frame(frame)
            await self.stop_ttfb_metrics()
        while sound.marks:
            await self.push_frame(sound.marks.pop(0))

    async def _tear_down(self) -> None:
        talker, self._talker = self._talker, None
        if talker is not None:
            talker.close()
        pump, self._pump = self._pump, None
        if pump is not None:
            await self.cancel_task(pump)

    def _tell_quality(self, quality: Quality) -> None:
        logger.warning(f"{self}: the machine's speed allows for quality: {quality}")


def _image(image: Image) -> OutputImageRawFrame:
    height, width = image.shape[:2]
    frame = OutputImageRawFrame(image.tobytes(), (width, height), "RGB")
    frame.sync_with_audio = True
    return frame
