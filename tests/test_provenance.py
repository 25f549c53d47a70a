"""The mark: signed, read back, broken by any change, honest about files of others."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import c2pa
import numpy as np
import pytest
from media_samples import beep, write_wav

from sfumato import provenance
from sfumato.errors import InputError, OutputError
from sfumato.identity import Identity, settings_folder
from sfumato.media.files import sha256_of
from sfumato.media.image import load_image, save_image
from sfumato.media.video import VideoReader, VideoWriter
from sfumato.version import __version__

pytestmark = pytest.mark.unit


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)


def make(path: Path) -> Path:
    """An unmarked video or picture."""
    if path.suffix == ".mp4":
        with VideoWriter(path, (64, 64)) as writer:
            for _ in range(5):
                writer.write(picture())
        return path
    return save_image(path, picture())


def pixels(path: Path) -> np.ndarray:
    if path.suffix == ".mp4":
        with VideoReader(path) as reader:
            return np.stack(list(reader))
    return load_image(path)


@pytest.fixture
def other_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "other"))
    return tmp_path / "other"


@pytest.mark.parametrize("name", ["a.mp4", "a.png", "a.jpg"])
def test_mark_round_trip(no_leftovers: Path, name: str) -> None:
    path = make(no_leftovers / name)
    sound = write_wav(no_leftovers / "a.wav", beep(16_000, 1, 1.2), 16_000)
    before = pixels(path)
    assert not provenance.verify(path).marked
    digest = sha256_of(sound)
    provenance.marker(photo=digest, sound=digest)(path)
    report = provenance.verify(path)
    assert report.marked and report.intact and report.own and not report.problems
    assert report.generator == f"Sfumato {__version__}"
    assert report.inputs["photo"] == report.inputs["sound"] == digest
    assert "Made by a machine" in str(report) and "good" in str(report)
    assert np.array_equal(pixels(path), before)


def test_writer_signs_last(no_leftovers: Path) -> None:
    finish = provenance.marker(photo="00" * 32)
    with VideoWriter(no_leftovers / "a.mp4", (64, 64), finish=finish) as writer:
        writer.write(picture())
    report = provenance.verify(no_leftovers / "a.mp4")
    assert report.intact and report.inputs["photo"] == "00" * 32


@pytest.mark.parametrize("name", ["a.mp4", "a.png", "a.jpg"])
@pytest.mark.parametrize("part", [0.6, 0.8, 0.97])
def test_any_change_shows(tmp_path: Path, name: str, part: float) -> None:
    path = make(tmp_path / name)
    provenance.marker()(path)
    data = bytearray(path.read_bytes())
    data[int(len(data) * part)] ^= 0x55
    path.write_bytes(data)
    report = provenance.verify(path)
    assert not report.intact and report.problems
    assert "BROKEN" in str(report)


def test_another_computers_key_is_good_but_not_ours(tmp_path: Path, other_user: Path) -> None:
    path = make(tmp_path / "a.png")
    provenance.marker()(path)
    assert provenance.verify(path).own
    (other_user / "content-credentials.pem").unlink()
    report = provenance.verify(path)  # this user has no key at all
    assert report.marked and report.intact and not report.own
    Identity.own()
    report = provenance.verify(path)
    assert report.marked and report.intact and not report.own
    assert "another computer" in str(report)


@pytest.mark.skipif(sys.platform == "win32", reason="no getrusage")
def test_signing_takes_no_memory(tmp_path: Path) -> None:
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    provenance.marker()(make(tmp_path / "warm.mp4"))
    path = tmp_path / "large.mov"
    with av.open(str(path), "w") as container:  # 94 MB, as large as an hour of a portrait
        stream = container.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 512, 512, "yuv420p"
        for index in range(240):
            frame = av.VideoFrame(512, 512, "yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    provenance.marker()(path)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit < 40e6
    assert provenance.verify(path).intact


def test_credentials_of_a_camera_are_no_mark(tmp_path: Path) -> None:
    path, signed = make(tmp_path / "a.jpg"), tmp_path / "b.jpg"
    identity = Identity.own()
    action = {
        "action": "c2pa.created",
        "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture",
    }
    manifest = {
        "claim_generator_info": [{"name": "A camera", "version": "2"}],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
    }
    info = c2pa.C2paSignerInfo(
        c2pa.C2paSigningAlg.ES256, identity.chain.encode(), identity.key.encode(), None
    )
    with c2pa.Builder(json.dumps(manifest)) as builder:
        builder.sign_file(path, signed, c2pa.Signer.from_info(info))
    report = provenance.verify(signed)
    assert not report.marked and report.intact and report.generator == "A camera 2"
    assert "not of a machine" in str(report)


def test_files_that_cannot_carry_a_mark(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(InputError, match="carries no"):
        provenance.verify(tmp_path / "a.txt")
    with pytest.raises(InputError, match="No picture"):
        provenance.verify(tmp_path / "none.mp4")


@pytest.mark.skipif(os.name != "posix", reason="access rights are POSIX")
def test_key_is_private_and_made_once(other_user: Path) -> None:
    first = Identity.own()
    file = settings_folder() / "content-credentials.pem"
    assert settings_folder() == other_user
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert Identity.own() == first == Identity.stored()
    assert len(list(other_user.iterdir())) == 1


def test_processes_that_start_together_share_one_key(other_user: Path) -> None:
    code = "from sfumato.identity import Identity; print(Identity.own().serial)"
    runs = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    serials = {run.communicate(timeout=60)[0] for run in runs}
    assert len(serials) == 1 and "" not in serials


def test_damaged_or_unwritable_key_has_a_cure(
    other_user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_user.mkdir()
    for content in ("nonsense", "three\n\ngarbage\n\nblocks\n"):
        (other_user / "content-credentials.pem").write_text(content)
        with pytest.raises(OutputError, match="delete it"):
            provenance.marker()
    monkeypatch.setenv("SFUMATO_HOME", str(other_user / "content-credentials.pem"))
    with pytest.raises(OutputError, match="SFUMATO_HOME"):
        provenance.marker()


def test_a_file_that_is_not_what_its_name_says_is_a_user_error(tmp_path: Path) -> None:
    path = tmp_path / "words.wav"
    path.write_text("hi")
    with pytest.raises(InputError, match="broken or not what its name says"):
        provenance.verify(path)
