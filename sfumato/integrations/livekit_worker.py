"""LiveKit Agents, with the face on a machine of its own.

The agent has a :class:`SfumatoWorkerSession`: it makes a token for the face and posts it to a
:func:`worker`, which joins the room as a participant that publishes on behalf of the agent. The
agent sends it the voice through the room.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import aiohttp
from aiohttp import web
from livekit import api, rtc
from livekit.agents import AgentSession, get_job_context
from livekit.agents.types import ATTRIBUTE_PUBLISH_ON_BEHALF
from livekit.agents.voice.avatar import (
    AvatarSession,
    DataStreamAudioOutput,
    DataStreamAudioReceiver,
)

from sfumato.avatar import Avatar
from sfumato.errors import InputError, SfumatoError
from sfumato.integrations.livekit import PROVIDER, SfumatoVideoGenerator, Stage, logger
from sfumato.integrations.talker import VOICE_RATE

IDENTITY = "sfumato-avatar"
_ANSWER_SECONDS = 10.0  # that a worker may take to say yes or no
_AGENT_SECONDS = 60.0  # that an agent may take to be seen by the face


class SfumatoWorkerSession(AvatarSession):
    """The agent's side of a face on another machine.

        avatar = SfumatoWorkerSession("http://faces.internal:8100")
        await avatar.start(session, room=ctx.room)  # before session.start
        await session.start(agent=..., room=ctx.room)

    LiveKit's address and keys are those of the agent: ``LIVEKIT_URL``, ``LIVEKIT_API_KEY`` and
    ``LIVEKIT_API_SECRET``.

    Args:
        worker: address of a worker.
        identity: of the face among the room's participants.
    """

    def __init__(self, worker: str, *, identity: str = IDENTITY) -> None:
        super().__init__()
        self._worker = worker.rstrip("/")
        self._identity = identity

    @property
    def avatar_identity(self) -> str:
        """The face's identity among the room's participants."""
        return self._identity

    @property
    def provider(self) -> str:
        """Who makes the face, in LiveKit's metrics."""
        return PROVIDER

    async def start(self, agent_session: AgentSession, room: rtc.Room) -> None:
        """Call the face into the room and send it the agent's voice.

        Raises:
            InputError: No address or keys of LiveKit, or no worker with a free place.
        """
        url = os.environ.get("LIVEKIT_URL", "")
        if not url:
            raise InputError("LIVEKIT_URL is not set: the worker must know where the room is")
        token = self._token(*_place(room))
        await super().start(agent_session, room)
        await _call(self._worker, url, token)
        agent_session.output.replace_audio_tail(
            DataStreamAudioOutput(
                room,
                destination_identity=self._identity,
                sample_rate=VOICE_RATE,
                wait_remote_track=rtc.TrackKind.KIND_VIDEO,
                wait_playback_start=True,
            )
        )

    def _token(self, room: str, agent: str) -> str:
        try:
            token = api.AccessToken()
        except ValueError as error:
            raise InputError(
                f"LIVEKIT_API_KEY and LIVEKIT_API_SECRET make the face's token: {error}"
            ) from None
        token.with_kind("agent").with_identity(self._identity).with_name(PROVIDER)
        token.with_grants(api.VideoGrants(room_join=True, room=room))
        token.with_attributes({ATTRIBUTE_PUBLISH_ON_BEHALF: agent})
        text: str = token.to_jwt()
        return text


def _place(room: rtc.Room) -> tuple[str, str]:
    """Names of the room and of the agent in it."""
    if room.isconnected():
        return room.name, room.local_participant.identity
    job = get_job_context(required=False)
    if job is None:
        raise InputError("the avatar starts in a job of LiveKit's agents, or in a connected room")
    return job.job.room.name, job.local_participant_identity


async def _call(worker: str, url: str, token: str) -> None:
    timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
    request = {"url": url, "token": token}
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as client,
            client.post(f"{worker}/rooms", json=request) as answer,
        ):
            if answer.status != web.HTTPAccepted.status_code:
                reason = (await answer.text()).strip()
                raise InputError(f"the avatar worker at {worker} says no: {reason}")
    except (TimeoutError, aiohttp.ClientError) as error:
        reason = str(error) or type(error).__name__
        raise InputError(f"no avatar worker answers at {worker}: {reason}; start it") from error


async def perform(avatar: Avatar, url: str, token: str) -> None:
    """Be the face of an agent in a room, until the agent or the room goes.

    Args:
        avatar: who speaks.
        url: of LiveKit.
        token: lets the face join; says on whose behalf.

    Raises:
        rtc.ConnectError: The room cannot be joined.
        asyncio.TimeoutError: The agent did not come within a minute.
    """
    room = rtc.Room()
    over = asyncio.Event()
    await room.connect(url, token)
    try:
        agent = room.local_participant.attributes.get(ATTRIBUTE_PUBLISH_ON_BEHALF)

        def left(participant: rtc.RemoteParticipant) -> None:
            if participant.identity == agent:
                over.set()

        room.on("participant_disconnected", left)
        room.on("disconnected", lambda _reason: over.set())
        voice = DataStreamAudioReceiver(room, sender_identity=agent)
        stage = Stage(room, voice, SfumatoVideoGenerator(avatar))
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(stage.aclose)
            await asyncio.wait_for(stage.start(), _AGENT_SECONDS)
            await _first(over.wait(), stage.run())
    finally:
        await room.disconnect()


async def _first(*jobs: Coroutine[Any, Any, Any]) -> None:
    """Run until the first is done; its error is raised, the others are cancelled."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def worker(avatar: Avatar, *, places: int = 1) -> web.Application:
    """A web application that sends faces into rooms; ``aiohttp.web.run_app`` serves it.

    ``POST /rooms`` with ``{"url": ..., "token": ...}`` answers 202, or 503 when all places are
    taken; ``GET /`` tells how many are free. Who reaches it can send faces anywhere: keep it in a
    private network.

    Args:
        avatar: who speaks, in every room.
        places: rooms at the same time; one takes a core and a bit.
    """
    rooms: set[asyncio.Task[None]] = set()

    async def state(_request: web.Request) -> web.Response:
        return web.json_response({"places": places, "free": places - len(rooms)})

    async def join(request: web.Request) -> web.Response:
        try:
            body = await request.json()
            url, token = str(body["url"]), str(body["token"])
        except (ValueError, LookupError, TypeError):
            raise web.HTTPBadRequest(text='a body like {"url": ..., "token": ...}') from None
        if len(rooms) >= places:
            raise web.HTTPServiceUnavailable(text=f"all places are taken ({places})")
        task = asyncio.create_task(_guarded(perform(avatar, url, token)))
        rooms.add(task)
        task.add_done_callback(rooms.discard)
        return web.Response(status=web.HTTPAccepted.status_code)

    async def leave_all(_app: web.Application) -> AsyncIterator[None]:
        yield
        for task in rooms:
            task.cancel()
        await asyncio.gather(*rooms, return_exceptions=True)

    app = web.Application()
    app.cleanup_ctx.append(leave_all)
    app.add_routes([web.get("/", state), web.post("/rooms", join)])
    return app


async def _guarded(job: Coroutine[Any, Any, None]) -> None:
    """A room that fails is told in the log and takes no other with it."""
    try:
        await job
    except (TimeoutError, rtc.ConnectError, SfumatoError, RuntimeError) as error:
        logger.error("a room is left: %s", str(error) or type(error).__name__)
    except Exception:
        logger.exception("a room is left")
