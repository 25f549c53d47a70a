"""Uploads: counted while they arrive, whatever their headers say, and complete or absent."""

from __future__ import annotations

import contextlib
import io
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import anyio
import anyio.to_thread
from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from sfumato.server.errors import RequestError

_FIELD = 65_536  # bytes of a field that is no file
_PARTS = 20
_HEADER = 4096  # bytes of a part's header line
_DIGITS = 18  # of a length that is looked at
_DRAIN_SECONDS = 2.0
_NAME = 80  # letters that are kept of a file's name


@dataclass(frozen=True)
class Rule:
    """A file that may come.

    Attributes:
        size: bytes at most.
        path: where it is written to; None keeps it in memory.
    """

    size: int
    path: Path | None = None


@dataclass
class File:
    """A file that came.

    Attributes:
        name: as its sender calls it, without folders.
        data: its content where it was kept in memory, else empty.
    """

    name: str
    data: bytes = b""


@dataclass
class Form:
    """What an upload held: fields and files by their names."""

    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, File] = field(default_factory=dict)


class Uploads:
    """Takes uploads, so many at a time.

    Args:
        at_once: uploads at a time; more are refused.
    """

    def __init__(self, at_once: int = 32) -> None:
        self._at_once = at_once
        self._coming = 0

    async def receive(self, request: Request, rules: Mapping[str, Rule], seconds: float) -> Form:
        """Take a ``multipart/form-data`` body.

        Args:
            request: whose body was not read yet.
            rules: the files that may come, by the names of their fields.
            seconds: in which all must have arrived.

        Raises:
            RequestError: 400 broken, 408 too slow, 413 too large, 415 of another type, 503 too
                many at once. Nothing of it stays.
        """
        if self._coming >= self._at_once:
            raise RequestError(503, f"{self._at_once} uploads come in already: try again")
        self._coming += 1
        collector = _Collector(rules)
        body = request.stream()
        try:
            with anyio.fail_after(seconds):
                await _collect(request, collector, body)
        except BaseException as error:
            collector.discard()
            if isinstance(error, TimeoutError):
                slow = f"the upload took longer than {seconds:g} seconds: send a smaller file"
                raise RequestError(408, slow) from None
            if isinstance(error, RequestError):
                await _drain(body)
            raise
        finally:
            self._coming -= 1
        return collector.form


async def _collect(request: Request, collector: _Collector, body: AsyncIterator[bytes]) -> None:
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise RequestError(415, "send multipart/form-data, see /api/openapi.json")
    collector.expect(request.headers.get("content-length", ""))
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": collector.begin,
            "on_header_field": collector.header_name,
            "on_header_value": collector.header_value,
            "on_header_end": collector.header_end,
            "on_headers_finished": collector.headers_end,
            "on_part_data": collector.data,
            "on_part_end": collector.part_end,
            "on_end": collector.end,
        },
    )
    try:
        async for chunk in body:
            # In a thread, as it may wait for the disk.
            await anyio.to_thread.run_sync(parser.write, chunk)
    except FormParserError:
        raise RequestError(400, "the upload is no proper multipart/form-data") from None
    except ClientDisconnect:
        raise RequestError(400, "the upload broke off") from None
    except OSError as error:
        raise RequestError(503, f"the upload cannot be kept ({error.strerror})") from error
    if not collector.complete:
        raise RequestError(400, "the upload ends in the middle: send it again")


async def _drain(body: AsyncIterator[bytes]) -> None:
    """Most programs read an answer only after all was sent."""
    with anyio.move_on_after(_DRAIN_SECONDS), contextlib.suppress(ClientDisconnect):
        async for _ in body:
            pass


class _Collector:
    """What the parser finds goes through here; all limits are kept here."""

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        self.form = Form()
        self.complete = False
        self._rules = rules
        self._parts = 0
        self._head: dict[bytes, bytes] = {}
        self._header, self._value = b"", b""
        self._name = ""
        self._sink: BinaryIO = io.BytesIO()
        self._size = self._most = 0

    def expect(self, length: str) -> None:
        """The length that the headers announce; a lie is found out later."""
        most = sum(rule.size for rule in self._rules.values()) + _PARTS * _FIELD
        if length.isdecimal() and (len(length) > _DIGITS or int(length) > most):
            raise RequestError(413, f"the upload is larger than {most // 10**6} MB")

    def begin(self) -> None:
        self._parts += 1
        if self._parts > _PARTS:
            raise RequestError(400, f"more than {_PARTS} parts in one upload")
        self._head = {}

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._header = self._grown(self._header, data[start:end])

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value = self._grown(self._value, data[start:end])

    def header_end(self) -> None:
        self._head[self._header.lower()] = self._value
        self._header, self._value = b"", b""

    def headers_end(self) -> None:
        _, options = parse_options_header(self._head.get(b"content-disposition"))
        self._name = options.get(b"name", b"").decode(errors="replace")
        if self._name in self.form.fields or self._name in self.form.files:
            raise RequestError(400, f'"{self._name}" came twice')
        rule = self._rules.get(self._name)
        if b"filename" not in options:
            if rule is not None:
                raise RequestError(400, f'"{self._name}" must be a file')
            self._sink, self._most = io.BytesIO(), _FIELD
        elif rule is None:
            known = ", ".join(self._rules)
            raise RequestError(400, f'no file "{self._name}" is wanted here; known: {known}')
        else:
            name = options[b"filename"].decode(errors="replace").replace("\\", "/")
            printable = "".join(c for c in name.rsplit("/", 1)[-1] if c.isprintable())
            self.form.files[self._name] = File(printable[-_NAME:] or self._name)
            self._sink = io.BytesIO() if rule.path is None else rule.path.open("xb")
            self._most = rule.size
        self._size = 0

    def data(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        if self._size > self._most:
            most = f"{self._most // 10**6} MB" if self._most >= 10**6 else f"{self._most} bytes"
            raise RequestError(413, f"{self._name} is larger than {most}: send a smaller file")
        self._sink.write(data[start:end])

    def part_end(self) -> None:
        file = self.form.files.get(self._name)
        kept = self._sink.getvalue() if isinstance(self._sink, io.BytesIO) else b""
        self._sink.close()
        if file is None:
            self.form.fields[self._name] = kept.decode(errors="replace")
        else:
            file.data = kept
            if not self._size:
                raise RequestError(400, f"{file.name} is empty (0 bytes): send it again")

    def end(self) -> None:
        self.complete = True

    def discard(self) -> None:
        """Leave nothing behind."""
        self._sink.close()
        for name in self.form.files:
            if (path := self._rules[name].path) is not None:
                path.unlink(missing_ok=True)

    def _grown(self, before: bytes, more: bytes) -> bytes:
        if len(before) + len(more) > _HEADER:
            raise RequestError(400, "the upload has a header that is too long")
        return before + more
