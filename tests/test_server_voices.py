"""Voices: what is installed is found and speaks; nothing that is typed becomes a command."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from media_samples import beep, onset, write_wav

from sfumato.errors import InputError, SfumatoError

pytest.importorskip("fastapi", reason="needs the extra: server")

from sfumato.server import voices as module  # noqa: E402
from sfumato.server.voices import Voices  # noqa: E402

pytestmark = pytest.mark.unit

needs_espeak = pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="espeak-ng is not installed"
)
needs_scripts = pytest.mark.skipif(sys.platform == "win32", reason="programs here are scripts")
LISTING = """Pty Language       Age/Gender VoiceName          File                 Other Languages
 5  af              --/M      Afrikaans          gmw/af
 2  en-gb           --/M      English_(Great_Britain) gmw/en               (en 2)
 3  en-uk           --/M      english-mb-en1     mb/mb-en1            (en-gb 3)
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where alone programs are looked for; no voices of this machine's user."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    return folder


def install(programs: Path, name: str, code: str) -> None:
    """A program that writes down its arguments and standard input, then does as told."""
    script = programs / name
    note = f"json.dump([sys.argv[1:], said], open({str(programs / 'called.json')!r}, 'w'))"
    text = f"#!{sys.executable}\nimport json, shutil, sys, time\nsaid = sys.stdin.read()\n"
    script.write_text(f"{text}{note}\n{code}\n")
    script.chmod(0o755)


def model(folder: Path, name: str, language: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.onnx").write_bytes(b"net")
    content = {"espeak": {"voice": language}}
    (folder / f"{name}.onnx.json").write_text(json.dumps(content))


def test_nothing_installed(programs: Path) -> None:
    voices = Voices()
    assert voices.all == [] and voices.default is None
    with pytest.raises(SfumatoError, match="no voice is installed.*espeak-ng"):
        voices.synthesise(None, "hello")
    with pytest.raises(InputError, match="is no folder"):
        Voices(programs / "missing")


@needs_scripts
def test_what_is_found(programs: Path, tmp_path: Path) -> None:
    install(programs, "espeak-ng", f"print({LISTING!r})")
    assert [voice.name for voice in Voices().all] == ["espeak-ng/af", "espeak-ng/en-gb"]
    assert Voices().default.name == "espeak-ng/en-gb"
    model(tmp_path / "own", "de_DE-kerstin", "de")
    model(tmp_path / "share" / "piper-voices" / "en", "en_US-amy", "en-us")
    (tmp_path / "own" / "other.onnx").write_bytes(b"a network of another kind")
    assert len(Voices(tmp_path / "own").all) == 2  # models alone speak nothing
    install(programs, "piper", "")
    found = Voices(tmp_path / "own").all
    assert [(voice.name, voice.language) for voice in found] == [
        ("piper/de_DE-kerstin", "de"),
        ("piper/en_US-amy", "en-us"),
        ("espeak-ng/af", "af"),
        ("espeak-ng/en-gb", "en-gb"),
    ]
    assert found[0].label == "de DE kerstin"
    assert Voices(tmp_path / "own").default.name == "piper/de_DE-kerstin"


@needs_scripts
def test_words_go_in_on_standard_input_and_sound_comes_back(programs: Path, tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "beep.wav", beep(22_050, 1, 1.5), 22_050)
    model(tmp_path / "own", "en_US-amy", "en-us")
    install(programs, "piper", f"shutil.copy({str(wav)!r}, sys.argv[-1])")
    said = "--help; $(reboot)\n`ls` \x00\x1b  \u00dcber"
    samples = Voices(tmp_path / "own").synthesise("piper/en_US-amy", said)
    assert samples.dtype == np.float32 and len(samples) == 24_000
    assert abs(onset(samples, 16_000) - 1.0) < 0.002
    arguments, heard = json.loads((programs / "called.json").read_text())
    assert arguments[:3] == ["--model", str(tmp_path / "own" / "en_US-amy.onnx"), "--output_file"]
    assert len(arguments) == 4 and not Path(arguments[3]).exists()
    assert heard == "--help; $(reboot) `ls` \u00dcber"


@needs_scripts
def test_programs_that_fail(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model(tmp_path, "amy", "en-us")
    silent = write_wav(tmp_path / "none.wav", np.zeros((0, 1)), 16_000)
    for code, words in {
        "sys.exit('first\\nno such model\\n')": "piper/amy failed .no such model",
        "": "piper/amy failed .no reason given",
        f"shutil.copy({str(silent)!r}, sys.argv[-1])": "said nothing",
        "time.sleep(60)": "took longer than 1 seconds",
    }.items():
        install(programs, "piper", code)
        voices = Voices(tmp_path)
        if "sleep" in code:
            monkeypatch.setattr(module, "SECONDS", 1.0)
        with pytest.raises(SfumatoError, match=words):
            voices.synthesise(None, "hello")
    (programs / "piper").unlink()
    with pytest.raises(SfumatoError, match="cannot be run"):
        voices.synthesise(None, "hello")


@needs_scripts
def test_bad_wishes(programs: Path) -> None:
    install(programs, "espeak-ng", f"print({LISTING!r})")
    voices = Voices()
    for voice, text, words in [
        ("espeak-ng/xx", "hello", 'no voice "espeak-ng/xx"'),
        ("-w/etc/passwd", "hello", "no voice"),
        (None, " \n\t\x00", "nothing to say"),
        (None, "a" * 2001, "2001 letters.*2000 at most"),
    ]:
        with pytest.raises(SfumatoError, match=words):
            voices.synthesise(voice, text)
    install(programs, "espeak-ng", "sys.exit(1)")
    assert Voices().all == []


@needs_espeak
def test_espeak_speaks() -> None:
    voices = Voices()
    names = {voice.name for voice in voices.all}
    assert {"espeak-ng/en-us", "espeak-ng/de"} <= names
    short, long = (
        voices.synthesise("espeak-ng/en-us", text)
        for text in ("Hello.", "Hello, I am a portrait, and I have something to say.")
    )
    assert 0.3 < len(short) / 16_000 < 2 < len(long) / 16_000 < 6
    assert np.abs(long).max() > 0.1 and np.abs(long).max() <= 1
    other = voices.synthesise(
        "espeak-ng/de", "Hello, I am a portrait, and I have something to say."
    )
    assert len(other) != len(long)
