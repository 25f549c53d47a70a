"""Live sessions by WebRTC: picture and sound as media tracks, all else on a data channel."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine
from fractions import Fraction
from typing import Any

import anyio
import av
import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.exceptions import InvalidAccessError, InvalidStateError
from aiortc.mediastreams import MediaStreamError
from av.audio.resampler import AudioResampler
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from sfumato.errors import SfumatoError
from sfumato.live import LiveFrame
from sfumato.protocol import Kind, message
from sfumato.server import relay, turn
from sfumato.server.conversation import HELLO_SECONDS, Conversation, first_of
from sfumato.server.errors import RequestError
from sfumato.server.house import House
from sfumato.server.process import LOST
from sfumato.server.room import Room
from sfumato.server.schema import IceAnswer, failures
from sfumato.server.seats import FullError
from sfumato.server.settings import ServerSettings
from sfumato.server.timeline import Timeline
from sfumato.timebase import FPS, SAMPLE_RATE, exact_div

router = APIRouter()

_LOG = logging.getLogger(__name__)

CHANNEL = "live"
_RTC_RATE = 48_000
_RTC_BLOCK = exact_div(_RTC_RATE, 2 * FPS)  # Opus takes 20 ms at a time
_CLOCK = 90_000
_TICKS = exact_div(_CLOCK, FPS)
_WAIT = 4  # frames in a track that nobody fetches
_MOST_INBOX = 1000  # messages that wait to be read; who sends more is hung up on
_MOST_OFFER = 1 << 16  # bytes
_OFFER_SECONDS = 10.0  # in which an offer must have arrived


class Description(BaseModel):
    """A session description (SDP) and its type, as browsers make them."""

    sdp: str
    type: str


class _Track(MediaStreamTrack):
    """A track that is filled from one side and fetched by the connection."""

    def __init__(self) -> None:
        super().__init__()
        self._frames: asyncio.Queue[av.VideoFrame | av.AudioFrame] = asyncio.Queue(_WAIT)

    def put(self, frame: av.VideoFrame | av.AudioFrame) -> None:
        """Add a frame; when nobody fetches, the oldest is left out."""
        if self._frames.full():
            self._frames.get_nowait()
        self._frames.put_nowait(frame)

    async def recv(self) -> av.VideoFrame | av.AudioFrame:
        """The next frame; asked for by the connection."""
        if self.readyState != "live":
            raise MediaStreamError
        return await self._frames.get()


class FaceTrack(_Track):
    """The pictures."""

    kind = "video"

    def show(self, frame: LiveFrame, place: int) -> None:
        """Send a frame's picture, to be seen at its place in the :class:`Timeline`."""
        picture = av.VideoFrame.from_ndarray(frame.image, format="rgb24")
        yuv = picture.reformat(format="yuv420p")
        yuv.pts, yuv.time_base = place * _TICKS, Fraction(1, _CLOCK)
        self.put(yuv)


class VoiceTrack(_Track):
    """Their sound, in the blocks that Opus wants."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._resampler = AudioResampler("s16", "stereo", _RTC_RATE, frame_size=_RTC_BLOCK)
        self._sent = 0  # samples, and those that a stop left out
        self._next = 0  # place of the next frame, where nothing stops

    def play(self, frame: LiveFrame, place: int) -> None:
        """Send a frame's sound, to be heard at its place in the :class:`Timeline`."""
        pcm = np.clip(frame.samples * 32768, -32768, 32767).astype(np.int16)
        sound = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        sound.sample_rate, sound.time_base = SAMPLE_RATE, Fraction(1, SAMPLE_RATE)
        self._sent += 2 * _RTC_BLOCK * (place - self._next)
        self._next = place + 1
        for block in self._resampler.resample(sound):
            block.pts, block.time_base = self._sent, Fraction(1, _RTC_RATE)
            self._sent += block.samples
            self.put(block)


class Call:
    """One visitor's connection, from the offer to its end."""

    def __init__(self, room: Room) -> None:
        # Without relays nobody outside is asked: addresses are those of this network.
        servers = [RTCIceServer(**server) for server in _relays(room.settings)]
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        self._face, self._voice = FaceTrack(), VoiceTrack()
        self._channel: asyncio.Future[RTCDataChannel] = asyncio.get_running_loop().create_future()
        self._over = asyncio.Event()
        self._inbox: asyncio.Queue[bytes] = asyncio.Queue(_MOST_INBOX)
        self._conversation = Conversation(room, self._send)
        self._peer.on("datachannel", self._opened)
        self._peer.on("track", self._hears)
        self._peer.on("connectionstatechange", self._changed)
        self._listening: asyncio.Task[None] | None = None

    async def answer(self, offer: Description) -> Description:
        """Agree on how to connect.

        Raises:
            ValueError, InvalidAccessError, InvalidStateError: The offer cannot be used.
        """
        try:
            return await self._answered(offer)
        except BaseException:
            await self._peer.close()
            raise

    async def _answered(self, offer: Description) -> Description:
        try:
            await self._peer.setRemoteDescription(RTCSessionDescription(offer.sdp, offer.type))
        except Exception as error:  # of all kinds, where an offer is no SDP
            raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
        if self._peer.sctp is None:
            raise ValueError(f'it holds no data channel "{CHANNEL}"')
        for transceiver in self._peer.getTransceivers():
            track = self._face if transceiver.kind == "video" else self._voice
            self._peer.addTrack(track)
            if transceiver.kind == "video":
                known = RTCRtpSender.getCapabilities("video").codecs
                # H.264 first: it is encoded in half the time of VP8.
                transceiver.setCodecPreferences(
                    sorted(known, key=lambda codec: codec.mimeType != "video/H264")
                )
        await self._peer.setLocalDescription(await self._peer.createAnswer())
        local = self._peer.localDescription
        return Description(sdp=local.sdp, type=local.type)

    async def run(self) -> None:
        """Talk until one side ends it."""
        try:
            async with self._conversation as conversation:
                if await self._begun(conversation):
                    showing, hearing = self._show(conversation), self._hear(conversation)
                    await first_of(showing, hearing, self._over.wait())
        except Exception:
            _LOG.exception("live session %s is lost", self._conversation.id)
            await self._send(message(Kind.ERROR, {"error": LOST}))
        finally:
            if self._listening is not None:
                self._listening.cancel()
            await self._peer.close()

    async def _begun(self, conversation: Conversation) -> bool:
        """Take up the visitor's hello; False: it never came, or cannot be taken up."""
        try:
            await asyncio.wait_for(self._channel, HELLO_SECONDS)
            hello = await asyncio.wait_for(self._inbox.get(), HELLO_SECONDS)
        except TimeoutError:
            return False
        try:
            await conversation.begin(hello)
        except SfumatoError as error:
            await self._send(message(Kind.ERROR, {"error": str(error)}))
            return False
        return True

    async def _show(self, conversation: Conversation) -> None:
        timeline = Timeline()
        async for frame in conversation.frames():
            place = timeline.place(frame.index)
            if frame.fresh:
                self._face.show(frame, place)
            self._voice.play(frame, place)

    async def _hear(self, conversation: Conversation) -> None:
        while True:
            await conversation.receive(await self._inbox.get())

    async def _send(self, data: bytes) -> None:
        channel = self._channel.result()
        if channel.readyState == "open":
            with contextlib.suppress(InvalidStateError, ConnectionError):
                channel.send(data)

    def _opened(self, channel: RTCDataChannel) -> None:
        if channel.label == CHANNEL and not self._channel.done():
            channel.on("message", self._received)
            channel.on("close", self._over.set)
            self._channel.set_result(channel)

    def _received(self, data: bytes | str) -> None:
        if self._inbox.full():
            self._over.set()
        else:
            self._inbox.put_nowait(data.encode() if isinstance(data, str) else data)

    def _hears(self, track: MediaStreamTrack) -> None:
        if track.kind == "audio":
            self._listening = asyncio.create_task(self._listen(track))

    async def _listen(self, track: MediaStreamTrack) -> None:
        """A microphone that comes as a media track."""
        resampler = AudioResampler("s16", "mono", SAMPLE_RATE)
        with contextlib.suppress(MediaStreamError):
            while True:
                heard = await track.recv()
                session = self._conversation.session
                assert isinstance(heard, av.AudioFrame)
                for block in resampler.resample(heard):
                    if session is not None:
                        samples = block.to_ndarray()[0].astype(np.float32) / np.float32(32768)
                        session.push(samples, realtime=True)

    def _changed(self) -> None:
        if self._peer.connectionState in {"failed", "closed"}:
            self._over.set()


async def begin(
    room: Room, description: Description
) -> tuple[Description, Coroutine[Any, Any, None]]:
    """Take up an offer.

    Returns:
        The answer, and the session: it is to be awaited.

    Raises:
        RequestError: The offer cannot be used.
    """
    call = Call(room)
    try:
        return await call.answer(description), call.run()
    except (ValueError, InvalidAccessError, InvalidStateError) as error:
        raise RequestError(400, f"this offer cannot be used: {error}") from None


@router.get("/api/ice", tags=["live"], summary="Relays for WebRTC")
async def ice(request: Request, response: Response) -> IceAnswer:
    """What an RTCPeerConnection takes to find its way here; empty where no relay is set up."""
    house: House = request.app.state.house
    response.headers["Cache-Control"] = "no-store"
    return IceAnswer.model_validate({"iceServers": _relays(house.settings)})


def _relays(settings: ServerSettings) -> list[turn.IceServer]:
    return turn.servers(settings.turn, settings.turn_secret, time.time())


@router.post(
    "/api/live",
    tags=["live"],
    summary="Open a live session by WebRTC",
    responses=failures(400, 408, 413, 503),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": Description.model_json_schema()}},
        }
    },
)
async def offer(request: Request) -> Description:
    """Answers a WebRTC offer, see docs/protocol.md; 503 when all sessions are taken."""
    house: House = request.app.state.house
    description = await _described(request)
    await house.seats.settle()
    with contextlib.ExitStack() as stack:
        try:
            worker = stack.enter_context(house.seat())
        except FullError as error:
            house.metrics.refused()
            raise HTTPException(503, str(error)) from None
        if worker is None:
            answer, talk = await begin(house, description)
        else:
            told, talk = await relay.call(worker, description.model_dump())
            answer = Description(**told)
        seat = stack.pop_all()

    async def lasting() -> None:
        with seat:
            await talk

    house.background(lasting())
    return answer


async def _described(request: Request) -> Description:
    """The offer that a request holds, small and in time."""
    data = bytearray()
    try:
        with anyio.fail_after(_OFFER_SECONDS):
            async for chunk in request.stream():
                data += chunk
                if len(data) > _MOST_OFFER:
                    raise RequestError(413, f"an offer has at most {_MOST_OFFER} bytes")
    except TimeoutError:
        raise RequestError(408, "the offer did not arrive in time: send it again") from None
    except ClientDisconnect:
        raise RequestError(400, "the offer broke off") from None
    try:
        return Description.model_validate_json(bytes(data))
    except ValidationError as error:
        wrong = [{**e, "loc": ("body", *e["loc"])} for e in error.errors(include_context=False)]
        raise RequestValidationError(wrong) from None
