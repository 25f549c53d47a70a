"""The live protocol: what is packed comes out again, and rubbish is refused in one line."""

from __future__ import annotations

import numpy as np
import pytest

from sfumato import protocol
from sfumato.errors import InputError
from sfumato.protocol import Kind, Packet

pytestmark = pytest.mark.unit


def packet(picture: bytes = b"\xff\xd8jpeg") -> Packet:
    samples = np.round(np.linspace(-1, 0.999, 640) * 32768).astype(np.float32) / 32768
    return Packet(70_000, True, False, samples, picture)


@pytest.mark.parametrize("picture", [b"\xff\xd8jpeg", b""])
def test_frames_travel_unchanged(picture: bytes) -> None:
    sent = packet(picture)
    message = sent.pack()
    assert message[0] == Kind.FRAME
    got = Packet.unpack(message[1:])
    assert (got.index, got.speech, got.ends, got.picture) == (70_000, True, False, picture)
    assert np.array_equal(got.samples, sent.samples)


def test_the_layout_is_the_documented_one() -> None:
    body = packet().pack()[1:]
    assert body[:12] == (70_000).to_bytes(4, "little") + b"\x01\x01" + (640).to_bytes(
        2, "little"
    ) + (6).to_bytes(4, "little")
    assert body[12:14] == (-32768).to_bytes(2, "little", signed=True)
    assert body[12 + 1280 :] == b"\xff\xd8jpeg"


def test_any_damage_is_refused() -> None:
    body = packet().pack()[1:]
    for cut in (0, 5, 11, 12, 600, len(body) - 1):
        with pytest.raises(InputError):
            Packet.unpack(body[:cut])
    with pytest.raises(InputError):
        Packet.unpack(body + b"x")
    with pytest.raises(InputError, match="codec 9"):
        Packet.unpack(body[:5] + b"\x09" + body[6:])


def test_random_bytes_never_crash_a_reader() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        data = rng.bytes(int(rng.integers(0, 80)))
        for read in (Packet.unpack, protocol.content, protocol.from_pcm):
            try:
                read(data)
            except InputError as error:
                assert "\n" not in str(error)


def test_pcm_is_exact_and_clips() -> None:
    samples = np.array([0, -1, 32767 / 32768, 2, -2], np.float32)
    assert protocol.from_pcm(protocol.to_pcm(samples)).tolist() == pytest.approx(
        [0, -1, 32767 / 32768, 32767 / 32768, -1]
    )
    with pytest.raises(InputError, match="16-bit"):
        protocol.from_pcm(b"abc")


def test_json_messages() -> None:
    message = protocol.message(Kind.STATE, {"pong": 3, "text": "é"})
    assert message[0] == Kind.STATE
    assert protocol.content(message[1:]) == {"pong": 3, "text": "é"}
    for wrong in (b"[1]", b"{", b"\xff", b"3"):
        with pytest.raises(InputError):
            protocol.content(wrong)
