"""The HTTP interface as a whole, on real networks and portraits of 256 pixels."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from importlib.resources import as_file
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sfumato import weights
from sfumato.avatar import Studio
from sfumato.media.audio import AudioReader
from sfumato.media.files import sha256_of
from sfumato.media.video import VideoReader
from sfumato.timebase import SAMPLE_RATE

pytest.importorskip("fastapi", reason="needs the extra: server")
pytest.importorskip("aiortc", reason="needs the extra: server")

from fastapi import FastAPI, Response, WebSocketDisconnect  # noqa: E402
from fastapi.testclient import TestClient  # noqa: E402
from media_samples import beep, write_wav  # noqa: E402
from starlette.types import Receive, Scope, Send  # noqa: E402

from sfumato import provenance  # noqa: E402
from sfumato.server.app import create_app  # noqa: E402
from sfumato.server.guard import Guard  # noqa: E402
from sfumato.server.house import House  # noqa: E402
from sfumato.server.settings import Limit, ServerSettings  # noqa: E402

pytestmark = pytest.mark.unit

SETTINGS = ServerSettings(
    threads=1,
    size=256,
    uploaded=1,
    waiting=1,
    photo=Limit(1_500_000, 20.0),
    recording=Limit(1_000_000, 20.0),
)


@pytest.fixture(scope="module", autouse=True)
def _unmeasured() -> Iterator[None]:
    """Speed is not measured at every start; ``test_server_command`` does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sfumato.server.house.carried", lambda avatar: 2)
        yield


@pytest.fixture(scope="module")
def app(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    with as_file(weights.find("demo/portrait.jpg")) as lady:
        given = tmp_path_factory.mktemp("given") / "mirror.jpg"
        Image.open(lady).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(given)
    settings = ServerSettings(**(vars(SETTINGS) | {"portraits": (given,)}))
    return create_app(settings, studio)


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


@pytest.fixture(scope="module")
def house(app: FastAPI) -> House:
    house: House = app.state.house
    return house


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    """The first 0.4 seconds of the built-in speech."""
    with as_file(weights.find("demo/speech.ogg")) as speech, AudioReader(speech) as reader:
        samples = next(iter(reader)), *reader
    sound = np.concatenate(samples)[: round(0.4 * SAMPLE_RATE)]
    return write_wav(tmp_path / "hello.wav", sound[:, None], SAMPLE_RATE)


def upload(client: TestClient, path: str, **parts: Any) -> Any:
    """A POST of files (name, content) and fields (text)."""
    files = {k: v for k, v in parts.items() if not isinstance(v, str)}
    fields = {k: (None, v) for k, v in parts.items() if isinstance(v, str)}
    return client.post(path, files=files | fields)


def failed(response: Any, status: int, words: str) -> None:
    assert response.status_code == status, response.text
    content = response.json()
    assert list(content) == ["error"] and "\n" not in content["error"]
    assert words in content["error"]


def portrait_jpeg(tint: int = 0) -> bytes:
    """The built-in portrait as a photo that the server does not know."""
    with as_file(weights.find("demo/portrait.jpg")) as lady:
        image = Image.open(lady).resize((576, 720))
    image.putpixel((0, 0), (tint, 0, 0))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return buffer.getvalue()


def wait_for(client: TestClient, url: str, *states: str) -> dict[str, Any]:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        video: dict[str, Any] = client.get(url).json()
        if video["state"] in states:
            return video
        time.sleep(0.02)
    raise AssertionError(video)


# Server


def test_health_and_readiness(client: TestClient, house: House) -> None:
    health = client.get("/api/health").json()
    assert health["status"] == "ok" and health["sessions"] == {"live": 0, "allowed": 2, "free": 2}
    assert client.get("/api/ready").json() == {"free": 2}
    with house.seats.take(), house.seats.take():
        assert client.get("/api/health").json()["sessions"]["free"] == 0
        failed(client.get("/api/ready"), 503, "all 2 live sessions are taken")


def test_figures(client: TestClient, house: House) -> None:
    house.metrics.frame(0.12)
    house.metrics.frame(None)
    house.metrics.refused()
    client.get("/api/videos/unknown")
    lines = client.get("/metrics").text.splitlines()
    for line in (
        "sfumato_frames_sent_total 2.0",
        'sfumato_frame_delay_seconds_bucket{le="0.1"} 0.0',
        'sfumato_frame_delay_seconds_bucket{le="0.13"} 1.0',
        "sfumato_frame_delay_seconds_count 1.0",
        "sfumato_sessions_refused_total 1.0",
        "sfumato_sessions_allowed 2.0",
        "sfumato_sessions_live 0.0",
        'sfumato_videos{state="running"} 0.0',
    ):
        assert line in lines
    assert any(line.startswith('sfumato_requests_failed_total{status="404"}') for line in lines)


def test_openapi_describes_it(client: TestClient) -> None:
    paths = client.get("/api/openapi.json").json()["paths"]
    assert {"/api/portraits", "/api/videos", "/api/videos/{video}/file", "/api/live"} <= set(paths)
    assert "/{path}" not in paths
    post = paths["/api/videos"]["post"]
    schema = post["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(schema["properties"]) == {"recording", "photo", "portrait", "options"}
    assert {"202", "400", "404", "408", "413", "415", "429", "503"} <= set(post["responses"])


def test_the_page_and_what_it_may(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200 and "<html" in page.text
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy
    assert "unsafe" not in policy and "http" not in policy
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    again = client.get("/", headers={"If-None-Match": page.headers["ETag"]})
    assert again.status_code == 304
    assert client.head("/").status_code == 200
    for path in ("/missing.js", "/..%2fapp.py", "/%00", "//etc/passwd", "/api/nothing"):
        failed(client.get(path), 404, "there is nothing at")
    failed(client.put("/api/videos"), 405, "PUT is not possible at /api/videos")


def test_pages_of_other_sites_cannot_use_it(client: TestClient) -> None:
    for origin in ("http://evil.example", "null", "http://testserver:81", "http://testserver.evil"):
        failed(client.post("/api/portraits", headers={"Origin": origin}), 403, "other sites")
        failed(client.delete("/api/portraits/x", headers={"Origin": origin}), 403, "other sites")
    own = {"Origin": "http://testserver"}
    failed(client.delete("/api/portraits/x", headers=own), 404, "no portrait")
    answer = client.get("/api/health", headers={"Origin": "http://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_every_error_has_one_shape(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    failed(client.post("/api/live", json={"sdp": "", "kind": "offer"}), 400, "body.type: ")
    failed(client.post("/api/live", content=b"{"), 400, "body")

    def broken() -> bytes:
        raise RuntimeError("secret")

    calm = TestClient(client.app, raise_server_exceptions=False)
    monkeypatch.setattr(client.app.state.house.metrics, "text", broken)
    failed(calm.get("/metrics"), 500, "a fault of the server (RuntimeError)")


# Portraits


def test_portraits_come_and_go(client: TestClient) -> None:
    first = client.get("/api/portraits").json()["portraits"]
    assert [(p["name"], p["kind"]) for p in first] == [("Lady", "built-in"), ("mirror", "given")]
    made = upload(client, "/api/portraits", photo=("me.jpg", portrait_jpeg()))
    assert made.status_code == 201
    mine = made.json()
    assert mine == upload(client, "/api/portraits", photo=("x.jpg", portrait_jpeg())).json()
    assert mine["name"] == "me" and mine["size"] == 256 and mine["warnings"] == []
    assert client.get("/api/portraits").json()["portraits"] == [*first, mine]
    picture = client.get(mine["picture"])
    assert picture.headers["Content-Type"] == "image/jpeg"
    assert Image.open(io.BytesIO(picture.content)).size == (256, 256)
    other = upload(client, "/api/portraits", photo=("you.jpg", portrait_jpeg(200))).json()
    failed(client.get(mine["picture"]), 404, "no portrait")  # one alone is kept
    assert client.delete(f"/api/portraits/{other['id']}").status_code == 204
    failed(client.delete(f"/api/portraits/{other['id']}"), 404, "no portrait")
    failed(client.delete("/api/portraits/lady"), 403, "only uploaded")


def test_photos_that_are_refused(client: TestClient) -> None:
    def photo(content: bytes, **fields: str) -> Any:
        return upload(client, "/api/portraits", photo=("me.jpg", content), **fields)

    blank = io.BytesIO()
    Image.new("RGB", (300, 300), (90, 120, 90)).save(blank, "PNG")
    failed(photo(blank.getvalue()), 400, "no human-like face found")
    failed(photo(b"GIF89a nonsense"), 415, "the photo is no picture that can be read")
    failed(photo(bytes(2_000_000)), 413, "photo is larger than 1 MB")
    failed(photo(bytes(9_000_000)), 413, "the upload is larger than 2 MB")
    failed(photo(b""), 400, "empty")
    for face in ("0", "first", "-1", "\u00b2", "100", "9" * 5000):
        failed(photo(portrait_jpeg(), face=face), 400, "say 1, 2, ...")
    failed(photo(portrait_jpeg(), face="2"), 400, "1 face(s) found")
    failed(upload(client, "/api/portraits", face="1"), 400, 'no file "photo"')
    failed(client.post("/api/portraits", content=portrait_jpeg()), 415, "multipart/form-data")
    failed(client.post("/api/portraits", json={"photo": "me.jpg"}), 415, "multipart/form-data")
    assert len(client.get("/api/portraits").json()["portraits"]) == 2


# Videos


def test_a_video_from_the_order_to_the_file(
    client: TestClient, house: House, hello: Path, tmp_path: Path
) -> None:
    options = json.dumps({"seed": 3, "emotion": {"happy": 0.8}})
    sound = ("hello.wav", hello.read_bytes())
    made = upload(client, "/api/videos", recording=sound, portrait="lady", options=options)
    assert made.status_code == 202
    url = f"/api/videos/{made.json()['id']}"
    assert made.headers["Location"] == url and made.json()["file"] is None
    video = wait_for(client, url, "done", "failed")
    assert (video["state"], video["progress"], video["error"]) == ("done", 1.0, None)
    answer = client.get(video["file"])
    assert answer.headers["Content-Type"] == "video/mp4"
    path = tmp_path / "video.mp4"
    path.write_bytes(answer.content)
    with VideoReader(path) as reader:
        assert [image.shape for image in reader] == [(256, 256, 3)] * 10
    report = provenance.verify(path)
    digest = house.portraits.entry("lady").avatar.digest
    assert report.marked and report.intact
    assert report.inputs == {"photo": digest, "sound": sha256_of(hello)}
    part = client.get(video["file"], headers={"Range": "bytes=0-99"})
    assert part.status_code == 206 and part.content == answer.content[:100]
    assert client.delete(url).status_code == 204
    failed(client.get(url), 404, "no video")
    failed(client.get(f"{url}/file"), 404, "no video")
    failed(client.delete(url), 404, "no video")


def test_a_video_of_an_uploaded_photo_with_all_of_it(
    client: TestClient, hello: Path, tmp_path: Path
) -> None:
    made = upload(
        client,
        "/api/videos",
        recording=("hello.wav", hello.read_bytes()),
        photo=("me.jpg", portrait_jpeg()),
        options='{"full_frame": true}',
    )
    video = wait_for(client, f"/api/videos/{made.json()['id']}", "done", "failed")
    assert video["error"] is None
    path = tmp_path / "video.mp4"
    path.write_bytes(client.get(video["file"]).content)
    with VideoReader(path) as reader:
        assert next(iter(reader)).shape == (720, 576, 3)
    uploaded = client.get("/api/portraits").json()["portraits"][-1]["id"]
    for url in (f"/api/videos/{video['id']}", f"/api/portraits/{uploaded}"):
        assert client.delete(url).status_code == 204


def test_videos_that_are_cancelled_or_too_many(
    client: TestClient, house: House, tmp_path: Path
) -> None:
    long = write_wav(tmp_path / "long.wav", beep(8_000, 1, 40.0), 8_000).read_bytes()
    order = {"recording": ("long.wav", long), "portrait": "lady"}
    running = upload(client, "/api/videos", **order).json()
    wait_for(client, f"/api/videos/{running['id']}", "running")
    waiting = upload(client, "/api/videos", **order).json()
    while (third := upload(client, "/api/videos", **order)).status_code == 202:
        client.delete(f"/api/videos/{waiting['id']}")
        waiting = third.json()
    failed(third, 429, "1 videos wait already")
    failed(client.get(f"/api/videos/{waiting['id']}/file"), 404, "is queued: there is no file")
    assert client.get("/api/health").json()["videos"] == {"queued": 1, "running": 1}
    for video in (waiting, running):
        assert client.delete(f"/api/videos/{video['id']}").status_code == 204
        assert client.get(f"/api/videos/{video['id']}").json()["state"] == "cancelled"
    folder = Path(house._folder.name) / "videos"
    end = time.monotonic() + 20
    while list(folder.iterdir()) and time.monotonic() < end:
        time.sleep(0.02)
    assert not list(folder.iterdir())


def test_videos_that_are_refused(
    client: TestClient, house: House, hello: Path, tmp_path: Path
) -> None:
    def video(**parts: Any) -> Any:
        return upload(client, "/api/videos", **parts)

    sound = ("hello.wav", hello.read_bytes())
    failed(video(recording=sound), 400, 'either a file "photo" or the id of a "portrait"')
    both = {"photo": ("me.jpg", portrait_jpeg()), "portrait": "lady"}
    failed(video(recording=sound, **both), 400, "either a file")
    failed(video(portrait="lady"), 400, 'no file "recording"')
    failed(video(recording=sound, portrait="gentleman"), 404, 'no portrait "gentleman"')
    failed(video(recording=sound, photo=("me.jpg", b"x")), 415, "is no picture")
    text = ("hello.wav", b"no sound at all")
    failed(video(recording=text, portrait="lady"), 415, "hello.wav is no sound that can be read")
    list_ = ("a.wav", b"ffconcat version 1.0\nfile /etc/hostname\n")
    failed(video(recording=list_, portrait="lady"), 415, "a.wav is no sound that can be read")
    failed(video(recording=sound, portrait="lady", options="[]"), 400, "a JSON object")
    failed(video(recording=sound, portrait="lady", options='{"size": 8}'), 400, "size 8")
    large = ("large.wav", bytes(1_100_000))
    failed(video(recording=large, portrait="lady"), 413, "recording is larger than 1 MB")
    assert not list((Path(house._folder.name) / "videos").iterdir())
    assert client.get("/api/health").json()["videos"] == {"queued": 0, "running": 0}


# Recordings and voices


def test_recordings_can_be_fetched(client: TestClient, house: House) -> None:
    recording = house.recordings.start(64)
    recording.add(np.full((64, 64, 3), 90, np.uint8), np.zeros(640, np.float32), "ab" * 32)
    done = house.recordings.finish(recording)
    answer = client.get(f"/api/recordings/{done.id}")
    assert answer.headers["Content-Type"] == "video/mp4"
    assert answer.content == done.path.read_bytes()
    for name in ("unknown-one", "..%2f..%2fsecret", "a"):
        assert client.get(f"/api/recordings/{name}").status_code == 404


def test_voices(client: TestClient, house: House) -> None:
    answer = client.get("/api/voices").json()
    assert [voice["name"] for voice in answer["voices"]] == [v.name for v in house.voices.all]
    assert (answer["default"] is None) == (not answer["voices"])


# The house


def test_only_under_its_own_names() -> None:
    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close"})
        else:
            await Response("in")(scope, receive, send)

    statuses: list[int] = []
    client = TestClient(Guard(served, ("localhost", "::1"), statuses.append))
    for host in ("localhost", "localhost:8000", "[::1]:8000"):
        assert client.get("/", headers={"Host": host}).text == "in"
        with client.websocket_connect("/live", headers={"Host": host}):
            pass
    for host in ("evil.example", "localhost.evil.example:8000", "", "["):
        failed(client.get("/", headers={"Host": host}), 403, "--hostname")
        with (
            pytest.raises(WebSocketDisconnect) as closed,
            client.websocket_connect("/live", headers={"Host": host}),
        ):
            pass
        assert closed.value.code == 1008
    assert statuses == [403] * 4


def test_nothing_stays_when_it_ends(studio: Studio, tmp_path: Path) -> None:
    app = create_app(SETTINGS, studio)
    folder = Path(app.state.house._folder.name)
    long = write_wav(tmp_path / "long.wav", beep(8_000, 1, 40.0), 8_000).read_bytes()
    with TestClient(app) as client:
        made = upload(client, "/api/videos", recording=("a.wav", long), portrait="lady")
        wait_for(client, f"/api/videos/{made.json()['id']}", "running")
        assert list(folder.rglob("recording"))
    assert not folder.exists()
