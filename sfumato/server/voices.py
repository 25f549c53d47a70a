"""Voices that are installed on this machine: espeak-ng and piper, each a program of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import InputError, SfumatoError
from sfumato.media.audio import AudioReader
from sfumato.server.errors import RequestError

Samples = NDArray[np.float32]

MOST_LETTERS = 2000
SECONDS = 30.0  # that a program may take
_CURE = (
    "no voice is installed on the server: install espeak-ng, or piper with voices in the folder "
    "of --voices"
)
_USUAL = ("en-us", "en-gb", "en")  # languages to begin with


@dataclass(frozen=True)
class Voice:
    """A voice.

    Attributes:
        name: names it in requests.
        label: for people.
        language: its code, such as "en-us".
        command: program and arguments; text comes on its standard input, and what it says is
            written to the WAV file whose path is added.
    """

    name: str
    label: str
    language: str
    command: tuple[str, ...]


class Voices:
    """All voices that were found.

    Args:
        folder: with voices of piper; the usual places are searched too.

    Raises:
        InputError: ``folder`` is none.
    """

    def __init__(self, folder: Path | None = None) -> None:
        if folder is not None and not folder.is_dir():
            raise InputError(f"--voices {folder} is no folder: name one with voices of piper")
        found = [*_piper(folder), *_espeak()]
        self._voices = {voice.name: voice for voice in found}

    @property
    def all(self) -> list[Voice]:
        """Those of piper first, which sound better."""
        return list(self._voices.values())

    @property
    def default(self) -> Voice | None:
        """Who speaks when no voice was chosen."""
        if not self._voices:
            return None
        first = self.all[0]
        engine = first.name.partition("/")[0]
        usual = (self._voices.get(f"{engine}/{language}") for language in _USUAL)
        return next((voice for voice in usual if voice is not None), first)

    def synthesise(self, voice: str | None, text: str) -> Samples:
        """Speak a text. Takes a moment: call it in a thread.

        Args:
            voice: its name; None takes the default.
            text: at most 2,000 letters.

        Returns:
            (n,) float32 mono at 16 kHz in [-1, 1].

        Raises:
            RequestError: No voice is installed, or there is none of that name.
            InputError: There is nothing to say, or too much.
            SfumatoError: The program failed or took too long.
        """
        chosen = self.default if voice is None else self._voices.get(voice)
        if chosen is None and not self._voices:
            raise RequestError(503, _CURE)
        if chosen is None:
            raise RequestError(404, f'no voice "{voice}": GET /api/voices lists them')
        words = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        if not words:
            raise InputError("nothing to say: type some words")
        if len(words) > MOST_LETTERS:
            raise InputError(f"{len(words)} letters to say: {MOST_LETTERS} at most, so split them")
        with tempfile.TemporaryDirectory(prefix="sfumato-voice-") as folder:
            return _spoken(chosen, words, Path(folder) / "said.wav")


def _spoken(voice: Voice, words: str, path: Path) -> Samples:
    try:
        run = subprocess.run(
            [*voice.command, str(path)],
            input=words.encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SfumatoError(
            f"{voice.name} took longer than {SECONDS:.0f} seconds: say less at a time"
        ) from None
    except OSError as error:
        raise SfumatoError(f"{voice.command[0]} cannot be run ({error.strerror})") from error
    if run.returncode or not path.is_file():
        lines = run.stderr.decode(errors="replace").split("\n")
        reason = next((line.strip() for line in reversed(lines) if line.strip()), "no reason given")
        raise SfumatoError(f"{voice.name} failed ({reason[:120]}): choose another voice")
    try:
        with AudioReader(path) as reader:
            return np.concatenate(list(reader))
    except InputError:
        raise SfumatoError(f"{voice.name} said nothing: choose other words or another voice") from (
            None
        )


def _espeak() -> list[Voice]:
    program = shutil.which("espeak-ng")
    if program is None:
        return []
    try:
        listing = subprocess.run(
            [program, "--voices"], capture_output=True, text=True, timeout=SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    voices = {}
    for line in listing.splitlines()[1:]:
        columns = line.split()
        # Voices of mbrola are listed whether they are installed or not.
        if len(columns) < 5 or columns[4].startswith("mb/"):
            continue
        language, label = columns[1], columns[3].replace("_", " ").strip()
        command = (program, "-v", language, "--stdin", "-b", "1", "-w")
        voices[language] = Voice(f"espeak-ng/{language}", label, language, command)
    return sorted(voices.values(), key=lambda voice: voice.label)


def _piper(folder: Path | None) -> list[Voice]:
    program = shutil.which("piper")
    if program is None:
        return []
    shares = (os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share", "/usr/share")
    usual = [Path(share) / name for share in shares for name in ("piper-voices", "piper/voices")]
    voices = {}
    for place in usual if folder is None else [folder, *usual]:
        for model in sorted(place.rglob("*.onnx")):
            language = _language(model.with_name(f"{model.name}.json"))
            if language is not None and model.stem not in voices:
                label = model.stem.replace("-", " ").replace("_", " ")
                command = (program, "--model", str(model), "--output_file")
                voices[model.stem] = Voice(f"piper/{model.stem}", label, language, command)
    return list(voices.values())


def _language(path: Path) -> str | None:
    """What the description beside a model says; None is no model of a voice."""
    try:
        content = json.loads(path.read_text(encoding="utf8"))
        return str(content["espeak"]["voice"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
