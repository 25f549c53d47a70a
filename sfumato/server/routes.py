"""All of HTTP but live sessions: portraits, videos, recordings, voices, health (docs/server.md)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse

from sfumato.errors import InputError
from sfumato.media.audio import AudioReader
from sfumato.server.errors import RequestError
from sfumato.server.house import House
from sfumato.server.jobs import Order, State
from sfumato.server.options import VideoOptions
from sfumato.server.portraits import Entry
from sfumato.server.schema import (
    Health,
    PortraitAnswer,
    PortraitList,
    Ready,
    Sessions,
    VideoAnswer,
    VoiceAnswer,
    VoiceList,
    Waiting,
    failures,
    upload,
)
from sfumato.server.uploads import Form, Rule
from sfumato.version import __version__

router = APIRouter()

_FACE = re.compile(r"[1-9][0-9]?")


def _house(request: Request) -> House:
    house: House = request.app.state.house
    return house


Shared = Annotated[House, Depends(_house)]


@router.get("/api/health", tags=["server"], summary="Is it up, and how busy")
async def health(house: Shared) -> Health:
    """Always 200 while the server answers."""
    counts, seats = house.jobs.counts(), house.seats
    return Health(
        status="ok",
        version=__version__,
        sessions=Sessions(
            live=seats.taken, allowed=seats.count, free=max(seats.count - seats.taken, 0)
        ),
        videos=Waiting(queued=counts[State.QUEUED], running=counts[State.RUNNING]),
    )


@router.get(
    "/api/ready", tags=["server"], summary="Is a live session free", responses=failures(503)
)
async def ready(house: Shared) -> Ready:
    """For load balancers: 503 while all sessions are taken."""
    free = house.seats.count - house.seats.taken
    if free <= 0:
        count = house.seats.count
        raise RequestError(
            503, f"all {count} live sessions are taken" if count else "sessions are started anew"
        )
    return Ready(free=free)


@router.get("/metrics", tags=["server"], summary="Figures for Prometheus")
async def metrics(house: Shared) -> Response:
    """Prometheus' text format."""
    return Response(await house.figures(), media_type="text/plain; version=0.0.4")


@router.get("/api/portraits", tags=["portraits"], summary="Who can speak")
async def portraits(house: Shared) -> PortraitList:
    """The built-in one first, then those given at the start, then uploaded ones."""
    return PortraitList(portraits=[PortraitAnswer.of(entry) for entry in house.portraits.all()])


@router.post(
    "/api/portraits",
    tags=["portraits"],
    status_code=201,
    summary="Prepare a photo",
    responses=failures(400, 408, 413, 415, 503),
    openapi_extra=upload(
        ["photo"], photo="file", face="which face: 1 for the largest, 2 for the next, ..."
    ),
)
async def add_portrait(request: Request, house: Shared) -> PortraitAnswer:
    """A picture with one face; it stays in memory. The same photo again has the same id."""
    limit = house.settings.photo
    form = await house.uploads.receive(request, {"photo": Rule(limit.size)}, limit.seconds)
    return PortraitAnswer.of(await _uploaded(form, house))


@router.get(
    "/api/portraits/{portrait}/picture",
    tags=["portraits"],
    summary="A small picture",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}, **failures(404)},
)
async def picture(portrait: str, house: Shared) -> Response:
    """A JPEG of 256 pixels."""
    entry = house.portraits.entry(portrait)
    headers = {"Cache-Control": "private, max-age=3600"}
    return Response(entry.picture, media_type="image/jpeg", headers=headers)


@router.delete(
    "/api/portraits/{portrait}",
    tags=["portraits"],
    status_code=204,
    response_model=None,
    summary="Forget an uploaded photo",
    responses=failures(403, 404),
)
async def remove_portrait(portrait: str, house: Shared) -> None:
    """Sessions that show it go on."""
    house.portraits.remove(portrait)


@router.post(
    "/api/videos",
    tags=["videos"],
    status_code=202,
    summary="Make a video",
    responses=failures(400, 404, 408, 413, 415, 429, 503),
    openapi_extra=upload(
        ["recording"],
        recording="file",
        photo="file",
        portrait="id of a portrait, instead of a photo",
        options='JSON: {"size", "seed", "full_frame", "emotion", "gaze", "distance", "head", '
        '"expressiveness"}, each of them if you like',
    ),
)
async def add_video(request: Request, response: Response, house: Shared) -> VideoAnswer:
    """A recording and a portrait become a signed MP4; ask for it by the id."""
    house.jobs.check_room()
    limit, photo = house.settings.recording, house.settings.photo
    with house.jobs.space() as (name, folder):
        path = folder / "recording"
        rules = {"recording": Rule(limit.size, path), "photo": Rule(photo.size)}
        form = await house.uploads.receive(request, rules, limit.seconds)
        options = VideoOptions.from_json(form.fields.get("options", ""), house.settings.size)
        entry = await _chosen(form, house)
        if "recording" not in form.files:
            raise RequestError(400, 'no file "recording": send what shall be said')
        called = form.files["recording"].name
        await anyio.to_thread.run_sync(_check_sound, path, called)
        order = Order(entry.photo, entry.face, path, called, options)
        video = house.jobs.submit(name, folder, order)
    response.headers["Location"] = f"/api/videos/{video.id}"
    return VideoAnswer.of(video)


@router.get(
    "/api/videos/{video}", tags=["videos"], summary="How far it is", responses=failures(404)
)
async def video_state(video: str, house: Shared) -> VideoAnswer:
    """State, progress and the time that is left."""
    return VideoAnswer.of(house.jobs.get(video))


@router.get(
    "/api/videos/{video}/file",
    tags=["videos"],
    summary="The finished video",
    response_class=FileResponse,
    responses={200: {"content": {"video/mp4": {}}}, **failures(404)},
)
async def video_file(video: str, house: Shared) -> FileResponse:
    """The signed MP4."""
    made = house.jobs.get(video)
    if made.state != State.DONE:
        raise RequestError(404, f'video "{video}" is {made.state.value}: there is no file')
    return FileResponse(made.path, media_type="video/mp4", filename=f"sfumato-{video}.mp4")


@router.delete(
    "/api/videos/{video}",
    tags=["videos"],
    status_code=204,
    response_model=None,
    summary="Cancel or remove a video",
    responses=failures(404),
)
async def remove_video(video: str, house: Shared) -> None:
    """Cancels what waits or is being made; removes what came to its end."""
    await anyio.to_thread.run_sync(house.jobs.remove, video)


@router.get(
    "/api/recordings/{recording}",
    tags=["live"],
    summary="Recording of a live session",
    response_class=FileResponse,
    responses={200: {"content": {"video/mp4": {}}}, **failures(404)},
)
async def recording_file(recording: str, house: Shared) -> FileResponse:
    """The signed MP4; the session tells its address."""
    path = house.recordings.get(recording)
    return FileResponse(path, media_type="video/mp4", filename=f"sfumato-{recording}.mp4")


@router.get("/api/voices", tags=["live"], summary="Voices that are installed")
async def voices(house: Shared) -> VoiceList:
    """Programs of this machine that speak texts."""
    default = house.voices.default
    return VoiceList(
        voices=[VoiceAnswer.of(voice) for voice in house.voices.all],
        default=None if default is None else default.name,
    )


async def _chosen(form: Form, house: House) -> Entry:
    """The portrait that an upload names or holds."""
    if ("photo" in form.files) == ("portrait" in form.fields):
        raise RequestError(400, 'send either a file "photo" or the id of a "portrait"')
    if "photo" in form.files:
        return await _uploaded(form, house)
    return house.portraits.entry(form.fields["portrait"])


async def _uploaded(form: Form, house: House) -> Entry:
    if "photo" not in form.files:
        raise RequestError(400, 'no file "photo": send a picture with one face')
    number = form.fields.get("face", "")
    if number and not _FACE.fullmatch(number):
        raise RequestError(400, f'face is "{number[:20]}": say 1, 2, ... by size')
    photo = form.files["photo"]
    face = int(number) - 1 if number else None
    return await house.portraits.add(photo.data, Path(photo.name).stem, face)


def _check_sound(path: Path, name: str) -> None:
    """Before it is queued: a track that can be decoded, with a sample in it."""
    try:
        with AudioReader(path):
            pass
    except InputError as error:
        raise RequestError(415, str(error).replace(str(path), name)) from None
