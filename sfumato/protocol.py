"""The binary protocol of live sessions over a WebSocket; docs/protocol.md is its specification.

One message is one frame of the WebSocket: a byte that says its kind, then the body. Numbers are
little endian. Who meets a kind that it does not know leaves the message alone.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import InputError

VERSION = 1
Samples = NDArray[np.float32]

MOST_SAMPLES = 16_000  # in one message of sound: a second
_FRAME = struct.Struct("<IBBHI")  # index, flags, picture's codec, samples, picture's bytes


class Kind(IntEnum):
    """The first byte of a message."""

    HELLO = 0  # both ways, JSON: the first message of each side
    CONTROL = 1  # to the server, JSON: what the face shall do
    SOUND = 2  # to the server: int16 samples, mono, 16 kHz, as they are heard
    SPEECH = 3  # to the server: the same, made beforehand; they wait until they are spoken
    FRAME = 4  # to the client: a picture and its sound
    STATE = 5  # to the client, JSON: what changed
    ERROR = 6  # to the client, JSON: {"error": text}; the session goes on unless it is closed
    END = 7  # to the server, no body: the speech pushed so far is a whole


class Codec(IntEnum):
    """How the picture of a frame is packed."""

    NONE = 0  # as the frame before
    JPEG = 1


_SPEECH_FLAG, _ENDS_FLAG = 1, 2


@dataclass(frozen=True)
class Packet:
    """A frame as it travels.

    Attributes:
        index: number of the frame since the session began, 25 a second.
        speech: somebody's words are in its sound; ends: a segment ends with it.
        samples: (n,) float32 of its sound, mono, 16 kHz.
        picture: packed picture, empty where it is that of the frame before.
    """

    index: int
    speech: bool
    ends: bool
    samples: Samples
    picture: bytes

    def pack(self) -> bytes:
        """The whole message."""
        flags = _SPEECH_FLAG * self.speech + _ENDS_FLAG * self.ends
        codec = Codec.JPEG if self.picture else Codec.NONE
        head = _FRAME.pack(self.index, flags, codec, len(self.samples), len(self.picture))
        return b"".join([bytes([Kind.FRAME]), head, to_pcm(self.samples), self.picture])

    @staticmethod
    def unpack(body: bytes) -> Packet:
        """The reverse, without the kind's byte.

        Raises:
            InputError: Cut off, or a codec of a later version.
        """
        if len(body) < _FRAME.size:
            raise InputError(f"a frame of {len(body)} bytes is cut off")
        index, flags, codec, count, size = _FRAME.unpack_from(body)
        if codec not in {Codec.NONE, Codec.JPEG}:
            raise InputError(f"pictures of codec {codec} are of a later version")
        middle = _FRAME.size + 2 * count
        if len(body) != middle + size:
            raise InputError(f"a frame of {len(body)} bytes should have {middle + size}")
        samples = from_pcm(body[_FRAME.size : middle])
        speech, ends = bool(flags & _SPEECH_FLAG), bool(flags & _ENDS_FLAG)
        return Packet(index, speech, ends, samples, body[middle:])


def to_pcm(samples: Samples) -> bytes:
    """(n,) float32 in [-1, 1] as little-endian int16."""
    data: bytes = np.clip(samples * 32768.0, -32768, 32767).astype("<i2").tobytes()
    return data


def from_pcm(data: bytes) -> Samples:
    """Little-endian int16 as (n,) float32 in [-1, 1].

    Raises:
        InputError: An odd number of bytes.
    """
    if len(data) % 2:
        raise InputError(f"{len(data)} bytes are no whole number of 16-bit samples")
    return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)


def message(kind: Kind, content: dict[str, Any]) -> bytes:
    """A message whose body is JSON."""
    return bytes([kind]) + json.dumps(content, separators=(",", ":")).encode()


def content(body: bytes) -> dict[str, Any]:
    """The JSON of a message, without the kind's byte.

    Raises:
        InputError: Not a JSON object.
    """
    try:
        value = json.loads(body)
    except ValueError as error:  # of bytes that are no UTF-8, too
        raise InputError(f"not JSON: {error}") from None
    except RecursionError:
        raise InputError("not JSON: it is nested too deep") from None
    if not isinstance(value, dict):
        raise InputError("a JSON object is wanted")
    return value
