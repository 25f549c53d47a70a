"""What the sync expert learns from: motion tracked by our own face encoder, and the sound with it.

Evaluation tracks videos with our own encoder, so training does too: ``<cache>/<name>.npz`` holds
``expression`` (T, N), ``pose`` (T, 6), ``good`` (T,) and ``mel`` (4 T, N_MELS) of a clip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato.corpus import ClipInfo
from sfumato.errors import SfumatoError
from sfumato.landmarks import FaceEncoder
from sfumato.latent import FaceBasis
from sfumato.media.arrays import save_arrays
from sfumato.media.audio import AudioReader
from sfumato.media.video import VideoReader
from sfumato.speech import (
    HOPS_PER_FRAME,
    LEVEL_START_DB,
    SpeechState,
    follow_level,
    loudness_db,
    mel_db,
    normalise,
)
from sfumato.timebase import SAMPLES_PER_FRAME
from sfumato.train.augment import disturb, resample
from sfumato.train.stamp import TRACKER, stamp

Array = NDArray[np.float32]
Parts = dict[str, Array]

FEWEST = 20  # frames


@dataclass(frozen=True)
class Clip:
    """One recording in memory.

    Attributes:
        name, person: which and whose.
        motion: (T, n) what the expert looks at; in step with the sound.
        mel: (4 T, N_MELS) decibel.
        tracked: False where the motion is only what is to be expected with this sound.
    """

    name: str
    person: str
    motion: Array
    mel: NDArray[np.float16]
    tracked: bool = True

    def __len__(self) -> int:
        return len(self.mel) // HOPS_PER_FRAME


def usable(info: ClipInfo) -> bool:
    """Real people with their own sound, in step, of the training split, held-out speakers out."""
    known = info.kind == "real" and info.teaches
    return known and info.synced and info.trusted


def make_cache(
    clips: Iterable[ClipInfo], cache: Path, progress: Callable[[str], None] = print
) -> None:
    """Tracks the clips and writes ``<cache>/<name>.npz``; what exists is kept."""
    stamp(cache, 1, TRACKER)
    encoder, basis = FaceEncoder.load(), FaceBasis.load()
    for number, info in enumerate(clips):
        target = cache / f"{info.name}.npz"
        if target.exists():
            continue
        try:
            with VideoReader(info.path) as reader:
                tracks = np.array(list(encoder.follow(reader)))
            with AudioReader(info.path) as sound:
                samples = np.concatenate(list(sound))
            save_arrays(target, clip_arrays(tracks, samples, basis))
        except SfumatoError as error:
            progress(f"{info.name} left out: {error}")
        if number % 100 == 99:
            progress(f"{number + 1} clips tracked")


def clip_arrays(tracks: NDArray[np.floating], samples: Array, basis: FaceBasis) -> dict[str, Array]:
    """What the cache keeps of a clip; as long as the shorter of sound and picture."""
    frames = min(len(tracks), -(-len(samples) // SAMPLES_PER_FRAME))
    good = np.isfinite(tracks[:frames]).all(axis=(1, 2))
    motion = basis.fit_clip(tracks[:frames])[1]
    held = len(SpeechState.start().samples)
    padded = np.pad(samples, (held, max(0, frames * SAMPLES_PER_FRAME - len(samples))))
    mel = mel_db(padded[: held + frames * SAMPLES_PER_FRAME])
    return {
        "expression": motion.expression.astype(np.float16),
        "pose": motion.pose.astype(np.float16),
        "good": good,
        "mel": mel.astype(np.float16),
    }


def load_clips(
    infos: Iterable[ClipInfo], cache: Path, columns: Callable[[Parts], Array]
) -> list[Clip]:
    """Cached clips, motion moved by the lag of their source, unless frames are missing.

    Args:
        columns: what of the cached arrays is the motion, (T, n).
    """
    clips = []
    for info in infos:
        path = cache / f"{info.name}.npz"
        if not path.exists():
            continue
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in stored.files}
        if len(arrays["good"]) < FEWEST or arrays["good"].mean() < 0.97:
            continue
        motion = later(np.asarray(columns(arrays), np.float32), info.lag)
        clips.append(Clip(info.name, info.person, motion, arrays["mel"]))
    return clips


def later(motion: Array, frames: float) -> Array:
    """Motion (T, n) as it is ``frames`` later, also between frames; the ends are held."""
    where = np.clip(np.arange(len(motion)) + frames, 0, len(motion) - 1)
    low = np.minimum(where.astype(int), max(len(motion) - 2, 0))
    share = (where - low).astype(np.float32)[:, None]
    return motion[low] * (1 - share) + motion[np.minimum(low + 1, len(motion) - 1)] * share


def weighted(clips: Sequence[Clip]) -> NDArray[np.float64]:
    """Chances of clips: square root of a person's length, shared over their clips."""
    length: dict[str, int] = {}
    for clip in clips:
        length[clip.person] = length.get(clip.person, 0) + len(clip)
    raw = np.array([len(c) / np.sqrt(length[c.person]) for c in clips])
    return raw / raw.sum()


class Rows:
    """Draws rows of ``frames`` frames of the clips that are long enough, changed at random.

    Args:
        strays: motions (T, n) by which people differ from what is to be expected; pieces of them
            are added to motion that was not tracked.
    """

    def __init__(self, clips: Sequence[Clip], frames: int, strays: Sequence[Array] = ()) -> None:
        self.clips = [c for c in clips if len(c) >= frames]
        self.frames = frames
        self.strays = [s for s in strays if len(s) >= frames]
        self.chances = weighted(self.clips) if self.clips else np.zeros(0)

    def batch(self, rows: int, rng: np.random.Generator) -> dict[str, Array]:
        """``motion`` (B, T, n) and ``sound`` (B, 4 T, N_MELS)."""
        picked = [self.clips[i] for i in rng.choice(len(self.clips), rows, p=self.chances)]
        motion, mel = zip(*(self._row(clip, rng) for clip in picked), strict=True)
        return {"motion": np.stack(motion), "sound": levelled(np.stack(mel), rng)}

    def _row(self, clip: Clip, rng: np.random.Generator) -> tuple[Array, Array]:
        take = int(np.clip(round(self.frames * rng.uniform(0.87, 1.15)), 4, len(clip)))
        start = int(rng.integers(0, len(clip) - take + 1))
        hops = slice(start * HOPS_PER_FRAME, (start + take) * HOPS_PER_FRAME)
        mel = resample(np.asarray(clip.mel[hops], np.float32), self.frames * HOPS_PER_FRAME)
        other = self.clips[int(rng.integers(len(self.clips)))]
        babble = np.asarray(other.mel[: len(mel)], np.float32) if rng.random() < 0.2 else None
        motion = resample(clip.motion[start : start + take], self.frames)
        if not clip.tracked and self.strays:
            stray = self.strays[int(rng.integers(len(self.strays)))]
            first = int(rng.integers(0, len(stray) - self.frames + 1))
            motion = motion + rng.uniform(0.3, 1.0) * stray[first : first + self.frames]
        return jolted(motion, rng), disturb(mel, babble, rng)


def jolted(motion: Array, rng: np.random.Generator) -> Array:
    """Another mouth says the same: other size of motion, other rest, jitter of a tracker.

    Motion (T, n) is in units of its own spread.
    """
    size = np.exp(rng.normal(0.0, 0.25) + rng.normal(0.0, 0.12, motion.shape[1]))
    rest = rng.normal(0.0, 0.25, motion.shape[1])
    middle = motion.mean(axis=0)
    jitter = rng.uniform(0.0, 0.15) * rng.standard_normal(motion.shape)
    changed = (motion - middle) * size + middle + rest + jitter
    return np.asarray(changed, np.float32)


def levelled(mel: Array, rng: np.random.Generator | None = None) -> Array:
    """Features of spectra (B, hops, N_MELS) in decibel, as a stream gives them.

    Args:
        rng: for a level that has heard something before; without it starts as a stream does.
    """
    loud = loudness_db(mel)
    level = np.full(len(mel), LEVEL_START_DB, np.float32)
    if rng is not None:
        known = np.quantile(loud, 0.9, axis=1) + rng.uniform(-6.0, 6.0, len(mel))
        level = np.where(rng.random(len(mel)) < 0.3, level, known).astype(np.float32)
    levels = np.empty_like(loud)
    for i in range(loud.shape[1]):
        level = follow_level(level, loud[:, i])
        levels[:, i] = level
    return normalise(mel, levels)
