"""Rows of sound and motion for training: clips augmented, joined with pauses, cut to one length.

Everything is read from a cache folder of small arrays (see :mod:`sfumato.train.motion_cache`):
``mel/<name>.npy`` (hops, N_MELS) decibel, ``moon/<name>.npy`` (frames, 288) features of the speech
teacher and ``face/<name>.npz`` (expression of the tracked video), the last two where they exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato.speech import (
    FLOOR_DB,
    HOPS_PER_FRAME,
    LEVEL_START_DB,
    N_MELS,
    follow_level,
    loudness_db,
    mel_db,
    normalise,
)
from sfumato.train.augment import disturb, resample
from sfumato.train.music import play

Array = NDArray[np.float32]

PAUSES = 0.15  # of the pieces of a row
CLEAN = 0.25  # of the pieces stay as recorded
MUSIC_PIECES = 30  # of four seconds, without voice


@dataclass(frozen=True)
class Clip:
    """One recording in memory.

    Attributes:
        name: as in the cache.
        person: who speaks (weights are per person).
        mel: (4 T, N_MELS) float16 decibel.
        teacher: (T, n) or None.
        motion: (T, n_out) or None.
        good: (T,) bool, frames whose motion was tracked.
        voice: (T,) probability that somebody speaks; None where unknown (music).
        weight: how often it is drawn.
    """

    name: str
    person: str
    mel: NDArray[np.float16]
    teacher: NDArray[np.float16] | None = None
    motion: Array | None = None
    good: NDArray[np.bool_] | None = None
    voice: Array | None = None
    weight: float = 1.0

    def __len__(self) -> int:
        return len(self.mel) // HOPS_PER_FRAME


def voice_of(mel: Array) -> Array:
    """Soft label (T,) of voice from a clean recording: loudness within 20 dB of its loud part."""
    loud = loudness_db(mel)
    limit = max(float(np.quantile(loud, 0.95)) - 20.0, -62.0)
    soft = 1.0 / (1.0 + np.exp(-(loud - limit) / 2.0))
    return soft.reshape(-1, HOPS_PER_FRAME).mean(axis=1).astype(np.float32)


@dataclass
class Row:
    """A training row under construction; lists of pieces along the time."""

    mel: list[Array] = field(default_factory=list)
    teacher: list[Array] = field(default_factory=list)
    motion: list[Array] = field(default_factory=list)
    mask: list[Array] = field(default_factory=list)  # (T, 3) teacher, motion, voice
    voice: list[Array] = field(default_factory=list)
    piece: list[Array] = field(default_factory=list)  # (T,) its number
    frames: int = 0


def levels_of(mel: Array) -> Array:
    """The running level (hops,) of a recording (hops, N_MELS) in decibel, as a stream has it."""
    loud, level = loudness_db(mel), np.float32(LEVEL_START_DB)
    levels = np.empty(len(mel), np.float32)
    for i in range(len(mel)):
        level = np.float32(follow_level(np.asarray(level), loud[i]))
        levels[i] = level
    return levels


class RowMaker:
    """Draws random rows of ``frames`` frames with features and targets."""

    def __init__(
        self,
        clips: Sequence[Clip],
        frames: int,
        n_teacher: int,
        n_out: int,
        rng: np.random.Generator,
    ) -> None:
        self.clips = list(clips)
        weights = np.array([c.weight for c in clips], np.float64)
        self.chances = weights / weights.sum()
        self.frames, self.n_teacher, self.n_out = frames, n_teacher, n_out
        self.rng = rng
        pieces = [play(4.0, self.rng) for _ in range(MUSIC_PIECES)]
        self.music = mel_db(np.concatenate(pieces))

    def batch(self, rows: int) -> dict[str, Array]:
        """Arrays with ``rows`` first: features (hops), and a frame each of the lists of a Row."""
        made = [self._row() for _ in range(rows)]
        out = {
            name: np.stack([np.concatenate(getattr(row, name))[: self.frames] for row in made])
            for name in ("teacher", "motion", "mask", "voice", "piece")
        }
        hops = self.frames * HOPS_PER_FRAME
        mel = np.stack([np.concatenate(row.mel)[:hops] for row in made])
        out["features"] = self._levelled(mel)
        return out

    def _levelled(self, mel: Array) -> Array:
        """Running level and normalisation, as at inference but from a random start."""
        loud = loudness_db(mel)
        start = self.rng.uniform(-6.0, 6.0, len(mel))
        known = np.quantile(loud, 0.9, axis=1)
        fresh = self.rng.random(len(mel)) < 0.3
        level = np.where(fresh, LEVEL_START_DB, known + start).astype(np.float32)
        levels = np.empty_like(loud)
        for i in range(loud.shape[1]):
            level = follow_level(level, loud[:, i])
            levels[:, i] = level
        return normalise(mel, levels)

    def _row(self) -> Row:
        row = Row()
        while row.frames < self.frames:
            if self.rng.random() < PAUSES:
                self._add_pause(row, int(self.rng.integers(10, 70)))
            else:
                self._add_clip(row, self.clips[self.rng.choice(len(self.clips), p=self.chances)])
        return row

    def _add_pause(self, row: Row, frames: int) -> None:
        """Silence, noise or music without voice; the face is at rest."""
        hops = frames * HOPS_PER_FRAME
        if self.rng.random() < 0.4:
            mel = self.rng.gumbel(self.rng.uniform(-95, -60), 3.0, (hops, N_MELS))
        else:
            start = int(self.rng.integers(0, len(self.music) - hops))
            mel = disturb(self.music[start : start + hops], None, self.rng)
            mel = mel - self.rng.uniform(0.0, 25.0)
        self._append(
            row,
            np.maximum(mel, FLOOR_DB).astype(np.float32),
            np.zeros((frames, self.n_teacher), np.float32),
            np.zeros((frames, self.n_out), np.float32),
            np.tile(np.array([0.0, 0.5, 1.0], np.float32), (frames, 1)),
            np.zeros(frames, np.float32),
        )

    def _add_clip(self, row: Row, clip: Clip) -> None:
        """A random piece of a clip at a random speed."""
        longest = self.frames + 8 - row.frames if row.frames else self.frames + 30
        take = min(len(clip), max(longest, 20))
        start = int(self.rng.integers(0, len(clip) - take + 1))
        frames = max(int(round(take * self.rng.uniform(0.87, 1.15))), 2)
        part = slice(start, start + take)
        hops = slice(start * HOPS_PER_FRAME, (start + take) * HOPS_PER_FRAME)
        mel = resample(np.asarray(clip.mel[hops], np.float32), frames * HOPS_PER_FRAME)
        mask = np.zeros((frames, 3), np.float32)
        teacher = np.zeros((frames, self.n_teacher), np.float32)
        motion = np.zeros((frames, self.n_out), np.float32)
        voice = np.zeros(frames, np.float32)
        if clip.teacher is not None:
            teacher, mask[:, 0] = resample(np.asarray(clip.teacher[part], np.float32), frames), 1.0
        if clip.motion is not None and clip.good is not None:
            motion = resample(clip.motion[part], frames)
            mask[:, 1] = resample(clip.good[part].astype(np.float32), frames) > 0.99
        if clip.voice is not None:
            voice, mask[:, 2] = resample(clip.voice[part], frames), 1.0
        other = self.clips[self.rng.integers(len(self.clips))]
        babble = np.asarray(other.mel[: len(mel)], np.float32) if self.rng.random() < 0.2 else None
        if self.rng.random() > CLEAN:
            mel = disturb(mel, babble, self.rng)
        self._append(row, mel, teacher, motion, mask, voice)

    def _append(
        self, row: Row, mel: Array, teacher: Array, motion: Array, mask: Array, voice: Array
    ) -> None:
        row.mel.append(mel)
        row.teacher.append(teacher)
        row.motion.append(motion)
        row.mask.append(mask)
        row.voice.append(voice)
        row.piece.append(np.full(len(voice), len(row.piece), np.float32))
        row.frames += len(voice)


def load_mels(cache: Path) -> list[str]:
    """Names of all recordings in the cache, sorted."""
    root = cache / "mel"
    return sorted(str(p.relative_to(root).with_suffix("")) for p in root.rglob("*.npy"))
