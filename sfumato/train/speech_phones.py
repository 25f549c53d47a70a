"""What linguistics knows and little data does not show: lips close for p, b, m, nearly for f, v.

Recordings whose words are known are aligned with their sounds by pocketsphinx (BSD, English), and
the faces expected for them (:mod:`sfumato.train.speech_labels`) get lips that close where they
must. ``cache/phones/<name>.json`` holds the sounds: a list of [phone of CMUdict, start, end] in
seconds.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato.media.files import save_text
from sfumato.timebase import FPS, SAMPLE_RATE
from sfumato.train.motion_cache import read_sound
from sfumato.train.motion_data import Clip
from sfumato.train.motion_targets import OPEN, Measures

Array = NDArray[np.float32]
Phone = tuple[str, float, float]

# Opening in face units that a sound allows, and how surely.
OPENINGS = {
    **dict.fromkeys(("P", "B", "M"), (-0.005, 1.0)),
    **dict.fromkeys(("F", "V"), (0.02, 0.7)),
}  # fmt: skip
REACH = 0.06  # seconds on either side in which lips come together and part
FRAME = 0.01  # seconds of pocketsphinx's


def transcripts(folder: Path) -> dict[str, str]:
    """Words by the stem of the recording, from ``transcripts.tsv`` (file, words) of a folder."""
    path = folder / "transcripts.tsv"
    if not path.exists():
        return {}
    with path.open(encoding="utf8", newline="") as file:
        rows = [row for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if row]
    return {Path(row[0]).stem: row[1] for row in rows if len(row) > 1}


def label_phones(sounds: Iterable[tuple[str, Path]], words: Mapping[str, str], cache: Path) -> int:
    """Writes ``cache/phones/<name>.json`` for recordings whose words are known.

    Args:
        sounds: name in the cache, and file.
        words: by name; recordings with words beyond the dictionary are left out.
        cache: of the speech training. What exists is kept.

    Returns:
        How many were written; 0 without pocketsphinx.
    """
    if importlib.util.find_spec("pocketsphinx") is None:
        return 0
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=SAMPLE_RATE, loglevel="FATAL", lm=None)
    written = 0
    for name, path in sounds:
        target = cache / "phones" / f"{name}.json"
        text = re.sub(r"[^a-z' ]", " ", words.get(name, "").lower()).split()
        known = text and all(decoder.lookup_word(word) is not None for word in text)
        if target.exists() or not known:
            continue
        samples = read_sound(path)
        phones = [] if samples is None else _align(decoder, samples, " ".join(text))
        if phones:
            target.parent.mkdir(parents=True, exist_ok=True)
            save_text(target, json.dumps(phones))
            written += 1
    return written


def _align(decoder: object, samples: Array, text: str) -> list[Phone]:
    """Two passes, as pocketsphinx wants it: words, then sounds; empty where words do not fit."""
    sound = (np.clip(samples, -1.0, 1.0) * 32767).astype("<i2").tobytes()
    decoder.set_align_text(text)  # type: ignore[attr-defined]
    try:
        for second in (False, True):
            if second:
                decoder.set_alignment()  # type: ignore[attr-defined]
            decoder.start_utt()  # type: ignore[attr-defined]
            decoder.process_raw(sound, full_utt=True)  # type: ignore[attr-defined]
            decoder.end_utt()  # type: ignore[attr-defined]
    except (RuntimeError, IndexError):
        return []
    alignment = decoder.get_alignment()  # type: ignore[attr-defined]
    return [
        (phone.name, phone.start * FRAME, (phone.start + phone.duration) * FRAME)
        for word in alignment or ()
        for phone in word
    ]


def closing(clips: Sequence[Clip], cache: Path, measures: Measures) -> list[Clip]:
    """The clips, those of known sounds with lips that close where they must."""
    return [_closing(clip, cache, measures) for clip in clips]


def _closing(clip: Clip, cache: Path, measures: Measures) -> Clip:
    path = cache / "phones" / f"{clip.name}.json"
    if clip.motion is None or not path.exists():
        return clip
    motion = clip.motion.copy()
    middles = (np.arange(len(motion)) + 0.5) / FPS
    for name, start, end in json.loads(path.read_text(encoding="utf8")):
        if name not in OPENINGS:
            continue
        allowed, surely = OPENINGS[name]
        away = np.maximum(np.maximum(start - middles, middles - end), 0.0)
        share = surely * np.clip(1.0 - away / REACH, 0.0, 1.0)
        now = motion @ measures.opening
        change = share * np.minimum(allowed - now, 0.0)
        motion[:, OPEN] += change / measures.opening[OPEN]
    return replace(clip, motion=motion.astype(np.float32))
