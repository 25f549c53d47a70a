"""Lips on speech whose sounds are known to the millisecond: p b m close, u o w round, f v narrow.

The speech is made by flite (a synthesiser of Debian's) where it is installed; no voice of a person,
but its times are exact, which no transcript's are.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato.eval.motion_lips import lips
from sfumato.latent import FaceBasis, Motion
from sfumato.media.audio import AudioReader
from sfumato.timebase import FPS

Samples = NDArray[np.float32]
Speak = Callable[[Samples, int], Motion]

VOICES = ("slt", "rms", "awb", "kal16")
TEXTS = (
    "Bob may pop by, and maybe Mabel will bring a map of the bumpy path.",
    "My mother bought a big paper lamp, a plum, and a pepper pie.",
    "Five very fine waves rolled over the low wooden floor.",
    "You and who knew the moon would soon move the water so slowly.",
    "Please keep these clean green sheets near the east beach.",
    "The old man hummed a simple tune about a happy summer home.",
)
CLOSING, FLAT = {"p", "b", "m"}, {"f", "v"}
ROUND, SPREAD = {"uw", "ow", "w", "uh"}, {"iy", "ih", "ey", "eh"}
OPEN = {"aa", "ae", "ah", "ay", "aw"}
TOUCHING = 0.02  # face units: lips that count as closed on the mean face, whose neutral is 0
CHANCE = 10  # frames by which speech and lips are shifted to see what chance gives


@dataclass(frozen=True)
class Phone:
    """A sound of speech and its time in seconds."""

    name: str
    start: float
    end: float


def phone_scores(speak: Speak, basis: FaceBasis) -> dict[str, float]:
    """Scores over all texts and voices; empty where flite is missing.

    Returns:
        ``phones_closure``: share of p b m with touching lips within a frame;
        ``phones_closure_chance``: the same out of step; ``phones_rounding``: how much narrower
        lips are at u o w than at i e, in spreads of the width; ``phones_fv``: opening at f v
        over that at open vowels; ``phones``: number of p b m.
    """
    rows = [(lips(speak(samples, 0), basis), phones) for samples, phones in spoken() if len(phones)]
    if not rows:
        return {}
    closing = [closes(o, p, 0) for (o, _), ps in rows for p in ps if p.name in CLOSING]
    chance = [closes(o, p, CHANCE) for (o, _), ps in rows for p in ps if p.name in CLOSING]
    spread = float(np.mean([w.std() for (_, w), _ in rows]))

    def mean(kind: set[str], which: int) -> float:
        values = [at(series[which], p) for series, ps in rows for p in ps if p.name in kind]
        return float(np.mean(values))

    return {
        "phones_closure": float(np.mean(closing)),
        "phones_closure_chance": float(np.mean(chance)),
        "phones_rounding": (mean(SPREAD, 1) - mean(ROUND, 1)) / max(spread, 1e-6),
        "phones_fv": mean(FLAT, 0) / max(mean(OPEN, 0), 1e-6),
        "phones": float(len(closing)),
    }


def closes(opening: NDArray[np.floating], phone: Phone, late: int) -> bool:
    """Whether lips touch during a phone, give or take a frame; ``late`` turns the lips round."""
    turned = np.roll(opening, late)
    first, last = int(phone.start * FPS) - 1, int(phone.end * FPS) + 1
    return bool((turned[max(first, 0) : last + 1] <= TOUCHING).any())


def at(values: NDArray[np.floating], phone: Phone) -> float:
    """The value in the middle of a phone."""
    middle = (phone.start + phone.end) / 2
    return float(values[min(int(middle * FPS), len(values) - 1)])


def spoken() -> Iterator[tuple[Samples, list[Phone]]]:
    """Samples and phones of every text by every voice."""
    if shutil.which("flite") is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        for number, text in enumerate(TEXTS):
            for voice in VOICES:
                path = Path(folder) / f"{voice}{number}.wav"
                command = ["flite", "-voice", voice, "-t", text, "-psdur", "-o", str(path)]
                run = subprocess.run(command, capture_output=True, text=True, check=False)
                if run.returncode == 0 and path.exists():
                    with AudioReader(path) as reader:
                        yield np.concatenate(list(reader)), phones_of(run.stdout)


def phones_of(listing: str) -> list[Phone]:
    """Phones from flite's listing ``name:end name:end``."""
    found, start = [], 0.0
    for item in listing.split():
        name, _, end = item.rpartition(":")
        found.append(Phone(name, start, float(end)))
        start = float(end)
    return found
