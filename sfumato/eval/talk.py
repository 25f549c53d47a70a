"""Lip-sync as a viewer sees it: real speech drives a portrait, the pictures are tracked again.

Both sides go through the same tracker: the real clip, and the video that was rendered from the
clip's sound and one of its own frames. Sound shifted in time shows what a bad result scores.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato.avatar import Studio, load
from sfumato.corpus import ClipInfo, read_index
from sfumato.eval.motion import LipScores, score_lips, summarise
from sfumato.geometry import topology
from sfumato.media.video import VideoReader
from sfumato.timebase import FPS

Floats = NDArray[np.floating]

SHIFT = 10  # frames by which the control is out of sync


def lip_series(tracks: Floats) -> tuple[Floats, Floats]:
    """Opening and width (T,) of the inner lips in outer-eye distances; gaps are interpolated."""
    rows = np.asarray(tracks, np.float64)
    left, right = topology.OUTER_CORNERS
    unit = np.linalg.norm(rows[:, left] - rows[:, right], axis=1)
    opening = np.linalg.norm(rows[:, 13, :2] - rows[:, 14, :2], axis=1) / unit
    width = np.linalg.norm(rows[:, 78] - rows[:, 308], axis=1) / unit
    return _filled(opening), _filled(width)


def _filled(values: Floats) -> Floats:
    good, when = np.isfinite(values), np.arange(len(values))
    if not good.any():
        return np.zeros(len(values))
    filled: Floats = np.interp(when, when[good], values[good])
    return filled


def talk(studio: Studio, video: Path, most: int = 250) -> tuple[LipScores, LipScores]:
    """Scores of the clip's rendering against the clip, and of the same rendering out of sync.

    The portrait is the frame of the clip whose lips are most nearly closed.
    """
    with VideoReader(video) as reader:
        frames = [image for image, _ in zip(reader, range(most), strict=False)]
    real = np.array(list(studio.encoder.follow(frames)))
    opening, width = lip_series(real)
    good = np.isfinite(real[:, 0, 0])
    still = frames[int(np.argmin(np.where(good, opening, np.inf)))]
    avatar = studio.avatar(still)
    pictures = [image for image, _ in zip(avatar.animate(video), range(len(frames)), strict=False)]
    made = lip_series(np.array(list(studio.encoder.follow(pictures))))
    count = min(len(pictures), len(frames))
    made = made[0][:count], made[1][:count]
    true = opening[:count], width[:count]
    shifted = np.roll(made[0], SHIFT), np.roll(made[1], SHIFT)
    return score_lips(made, true), score_lips(shifted, true)


def evaluate_talk(folder: Path, most: int = 40) -> dict[str, dict[str, float]]:
    """Mean scores by group of held-out clips, ``<group>`` and ``<group>_shifted``.

    Args:
        folder: clips with ``index.tsv`` (its real, synced test clips are taken), or any videos.
    """
    studio = load()
    scores: list[tuple[str, LipScores]] = []
    for clip in held_out_speech(folder)[:most]:
        own, control = talk(studio, clip.path)
        if own.frames < FPS:  # the sound track ends at once
            continue
        name = group(clip)
        print(name, clip.name, {k: round(v, 2) for k, v in asdict(own).items()}, flush=True)
        scores += [(name, own), (f"{name}_shifted", control)]
    return summarise(scores)


def held_out_speech(folder: Path) -> list[ClipInfo]:
    """Real clips with their own sound, test split; at most four of a person, in turn by person."""
    given = (folder / "index.tsv").exists()
    found: dict[str, list[ClipInfo]] = {}
    for clip in read_index(folder):
        wanted = clip.split == "test" and clip.kind == "real" and clip.synced and clip.trusted
        if (wanted or not given) and not 0 < clip.seconds < 1.5:
            found.setdefault(clip.person, []).append(clip)
    turns = [[clips[i] for clips in found.values() if i < len(clips)] for i in range(4)]
    return [clip for turn in turns for clip in turn]


def group(clip: ClipInfo) -> str:
    """Seen GRID speaker, GRID speakers never seen, or people in the wild."""
    if clip.source in {"grid_s1", "grid_lpr"} or clip.person.endswith("GRID_s1"):
        return "grid_seen"
    return "grid_new" if "GRID" in clip.person or clip.source == "lipify" else "wild"
