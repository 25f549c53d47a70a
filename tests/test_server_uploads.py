"""Uploads: limits hold whatever the headers say, and nothing half done stays."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra: server")

from starlette.requests import Request  # noqa: E402

from sfumato.server.errors import RequestError  # noqa: E402
from sfumato.server.uploads import Form, Rule, Uploads  # noqa: E402

pytestmark = pytest.mark.unit

EDGE = "edge"
END = f"--{EDGE}--\r\n".encode()
MULTIPART = f"multipart/form-data; boundary={EDGE}"


def part(name: str, data: bytes, file: str | None = None) -> bytes:
    named = f'; filename="{file}"' if file is not None else ""
    head = f'--{EDGE}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'
    return head.encode() + data + b"\r\n"


async def pieces(data: Iterable[bytes], pause: float = 0.0) -> AsyncIterator[bytes]:
    for piece in data:
        await asyncio.sleep(pause)
        yield piece


def receive(
    chunks: Iterable[bytes],
    rules: dict[str, Rule],
    *,
    seconds: float = 5.0,
    pause: float = 0.0,
    uploads: Uploads | None = None,
    **headers: str,
) -> Form:
    """What the server takes in of a body that comes in these chunks."""
    sent = {"content-type": MULTIPART} | {k.replace("_", "-"): v for k, v in headers.items()}

    async def run() -> Form:
        body = pieces(chunks, pause)

        async def incoming() -> dict[str, object]:
            piece = await anext(body, None)
            return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

        raw = [(k.encode(), v.encode()) for k, v in sent.items()]
        request = Request({"type": "http", "method": "POST", "headers": raw}, incoming)
        return await (uploads or Uploads()).receive(request, rules, seconds)

    return asyncio.run(run())


def refused(status: int, words: str, chunks: Iterable[bytes], **how: object) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        receive(chunks, **how)
    assert caught.value.status == status


@pytest.mark.parametrize("cut", [1, 7, 100_000])
def test_fields_and_files_arrive_however_they_are_cut(no_leftovers: Path, cut: int) -> None:
    photo, sound = bytes(range(256)) * 4, b"\r\n--edg" * 99
    body = part("face", b"2") + part("photo", photo, "C:\\me\\Ich \u00e4.jpg")
    body += part("recording", sound, "../../etc/hello.wav") + END
    chunks = [body[start : start + cut] for start in range(0, len(body), cut)]
    rules = {"photo": Rule(2000), "recording": Rule(2000, no_leftovers / "recording")}
    form = receive(chunks, rules)
    assert form.fields == {"face": "2"}
    assert (form.files["photo"].name, form.files["photo"].data) == ("Ich \u00e4.jpg", photo)
    assert form.files["recording"].name == "hello.wav"
    assert form.files["recording"].data == b""
    assert (no_leftovers / "recording").read_bytes() == sound


def endless() -> Iterable[bytes]:
    yield part("recording", b"", "a.wav")[:-2]
    while True:
        yield bytes(10_000)


@pytest.mark.parametrize("length", [{}, {"content_length": "12"}])
def test_too_large_without_or_with_a_lie_in_the_header(
    no_leftovers: Path, length: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfumato.server.uploads._DRAIN_SECONDS", 0.05)
    rules = {"recording": Rule(3_000_000, no_leftovers / "recording")}
    refused(413, "recording is larger than 3 MB", endless(), rules=rules, **length)
    assert not list(no_leftovers.iterdir())


def test_a_length_that_is_too_large_is_refused_before_anything_comes(no_leftovers: Path) -> None:
    path = no_leftovers / "recording"
    rules = {"recording": Rule(3_000_000, path)}
    for length in ("99000000", "9" * 5000):
        refused(413, "larger than 4 MB", [], rules=rules, content_length=length)
    assert not path.exists()


def test_too_slow(no_leftovers: Path) -> None:
    rules = {"recording": Rule(10**9, no_leftovers / "recording")}
    began = time.monotonic()
    refused(408, "longer than 0.2 seconds", endless(), rules=rules, seconds=0.2, pause=0.03)
    assert time.monotonic() - began < 2
    assert not list(no_leftovers.iterdir())


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (part("photo", b"x", "a.jpg"), "ends in the middle"),
        (part("photo", b"x", "a.jpg")[:-9], "ends in the middle"),
        (b"", "ends in the middle"),
        (b"GET / HTTP/1.1\r\n\r\n", "no proper multipart"),
        (part("photo", b"", "a.jpg") + END, "a.jpg is empty"),
        (part("photo", b"text") + END, '"photo" must be a file'),
        (part("virus", b"x", "a.exe") + END, 'no file "virus" is wanted here; known: photo'),
        (2 * part("photo", b"x", "a.jpg") + END, '"photo" came twice'),
        (part("a", b"") + part("a", b"") + END, '"a" came twice'),
        (b"".join(part(f"f{i}", b"x") for i in range(30)) + END, "more than 20 parts"),
        (part("n" * 9000, b"x") + END, "too long|no proper multipart"),
    ],
)
def test_broken_uploads(body: bytes, words: str) -> None:
    refused(400, words, [body], rules={"photo": Rule(100)})


def test_a_field_that_is_too_large() -> None:
    refused(413, "options is larger", [part("options", bytes(70_000)) + END], rules={})


@pytest.mark.parametrize(
    "kind", ["application/json", "multipart/form-data", "", "\u0142".encode().decode("latin-1")]
)
def test_other_types(kind: str) -> None:
    with pytest.raises(RequestError, match="send multipart/form-data") as caught:
        receive([b"{}"], {"photo": Rule(100)}, content_type=kind)
    assert caught.value.status == 415


def test_a_sender_who_goes_away(no_leftovers: Path) -> None:
    async def gone() -> None:
        sent = iter([part("recording", bytes(5000), "a.wav")[:-2]])

        async def incoming() -> dict[str, object]:
            piece = next(sent, None)
            if piece is None:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": piece, "more_body": True}

        raw = [(b"content-type", MULTIPART.encode())]
        request = Request({"type": "http", "method": "POST", "headers": raw}, incoming)
        rules = {"recording": Rule(10**6, no_leftovers / "recording")}
        await Uploads().receive(request, rules, 5.0)

    with pytest.raises(RequestError, match="broke off"):
        asyncio.run(gone())
    assert not list(no_leftovers.iterdir())


def test_a_disk_that_cannot_be_written(tmp_path: Path) -> None:
    rules = {"recording": Rule(100, tmp_path / "missing" / "recording")}
    refused(503, "cannot be kept", [part("recording", b"x", "a.wav") + END], rules=rules)


def test_only_so_many_at_once() -> None:
    uploads = Uploads(at_once=0)
    refused(503, "0 uploads come in already", [END], rules={}, uploads=uploads)
    again = Uploads(at_once=1)
    refused(415, "send multipart", [b""], rules={}, uploads=again, content_type="text/plain")
    assert receive([part("a", b"b") + END], {}, uploads=again).fields == {"a": "b"}
