"""Figures of many scenes by side: what was made, the real clips, sound out of step, a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sfumato.eval.motion_frechet import distances, windows
from sfumato.eval.motion_life import blinking, clip_figures, lid_opening
from sfumato.eval.motion_lips import LipScores, grouped, interior_r, lips, score_lips, summarise
from sfumato.eval.motion_takes import Scene, Take, later
from sfumato.eval.sync import (
    MARGIN,
    SyncExpert,
    SyncScores,
    accuracy,
    judged,
)
from sfumato.latent import FaceBasis
from sfumato.speech import HOPS_PER_FRAME
from sfumato.timebase import FPS

Array = NDArray[np.floating]
Figures = dict[str, float]

SHIFT = 12  # frames by which the control is out of step
FRAME_MS = 1000 / FPS
SUNG = "song"  # group without real people
# Made over real.
RATIOS = {
    "sync_confidence": "sync_ratio",
    "delta_p": "delta_p_ratio",
    "yaw_spread": "yaw_spread_ratio",
    "pitch_spread": "pitch_spread_ratio",
    "roll_spread": "roll_spread_ratio",
    "gaze_yaw_spread": "gaze_yaw_spread_ratio",
    "gaze_pitch_spread": "gaze_pitch_spread_ratio",
    "blink_rate": "blink_rate_ratio",
    "blink_duration": "blink_duration_ratio",
    "blink_completeness": "blink_completeness_ratio",
}


@dataclass(frozen=True)
class Verdict:
    """Everything about one clip on one side."""

    lips: LipScores
    sync: SyncScores
    life: Figures
    lids: Array
    cloud: tuple[Array, Array]


def judge(scene: Scene, expert: SyncExpert, heads: SyncExpert | None = None) -> dict[str, Verdict]:
    """Verdicts on ``made``, ``real``, ``shifted`` and, where there is one, ``baseline``.

    Shifted is the rendering of what was made, turned round by :data:`SHIFT` frames against sound
    and clip.
    """
    takes = {"real": scene.real} | scene.takes
    if "made" in takes:
        takes["shifted"] = takes["made"]
    return {side: _verdict(scene, take, expert, side) for side, take in takes.items()}


def _verdict(scene: Scene, take: Take, expert: SyncExpert, side: str) -> Verdict:
    late = SHIFT if side == "shifted" else 0
    # The sound of a real source may be off by a measured fraction; made motion is not.
    motion = later(take.motion, scene.lag) if side == "real" else take.motion
    opening, width = (np.roll(row, late) for row in (scene.lips if side == "real" else take.lips))
    heard = np.roll(scene.sound, late * HOPS_PER_FRAME, axis=0)
    seen, said = expert.vectors(motion, heard)
    interior = scene.interior if side == "real" else take.motion.interior
    between = interior_r(np.roll(interior, late, axis=0), scene.interior)
    return Verdict(
        replace(score_lips((opening, width), scene.lips, same_face=True), interior_r=between),
        judged(seen, said),
        clip_figures(take.motion, take.tracks, heard),
        lid_opening(take.tracks),
        windows(seen, MARGIN, take.motion, take.lips, take.tracks),
    )


def side_figures(
    scenes: Sequence[Scene], verdicts: Sequence[Mapping[str, Verdict]], side: str
) -> Figures:
    """All figures of a side over the clips that were rendered; songs only in their own group."""
    found = [(s, v[side]) for s, v in zip(scenes, verdicts, strict=True) if side in v]
    if not found:
        return {}
    groups = {scene.name: scene.group for scene, _ in found}
    out = _timed(grouped({s.name: v.lips for s, v in found}, groups))
    people = [(s, v) for s, v in found if s.group != SUNG] or found
    whole = summarise(v.lips for _, v in people)
    late = [_lag_ms(s, v) for s, v in people]
    out |= {
        "opening_r": whole["opening_r"],
        "width_r": whole["width_r"],
        "lag_ms": float(np.median(late)),
        "closure_rate": whole.get("closure", float("nan")),
        "false_closure": whole.get("false_closure", float("nan")),
        "amplitude": whole["amplitude"],
        "interior_r": whole.get("interior_r", float("nan")),
    }
    weights = [v.lips.frames for _, v in people]
    for key in ("confidence", "distance"):
        values = [getattr(v.sync, key) for _, v in people]
        out[f"sync_{key}"] = float(np.average(values, weights=weights))
    out["sync_lag_ms"] = float(np.median([v.sync.lag for _, v in people])) * FRAME_MS
    # Verdicts on heads rest on clips long enough to turn in.
    long = [v for _, v in people if v.lips.frames >= 2 * FPS] or [v for _, v in people]
    for key in long[0].life:
        out[key] = float(np.mean([v.life[key] for v in long]))
    return out | blinking(v.lids for v in long)


def _lag_ms(scene: Scene, verdict: Verdict) -> float:
    """Milliseconds by which lips come later than their sound, the recordings' own lag taken out."""
    return (verdict.lips.lag + scene.lag - scene.late) * FRAME_MS


def _timed(figures: Figures) -> Figures:
    return {k: v for k, v in figures.items() if not k.endswith("_lag")}


def cloud_distances(
    scenes: Sequence[Scene], verdicts: Sequence[Mapping[str, Verdict]], side: str
) -> Figures:
    """:func:`sfumato.eval.motion_frechet.distances` of a side."""
    used = [
        (scene.person, v["real"].cloud, v[side].cloud)
        for scene, v in zip(scenes, verdicts, strict=True)
        if side in v and scene.group != SUNG
    ]
    if not used:
        return {}
    people, real, made = zip(*used, strict=True)
    return distances(real, made, people)


def ratios(made: Figures, real: Figures) -> Figures:
    """:data:`RATIOS` where both are known."""
    return {
        name: made[key] / real[key]
        for key, name in RATIOS.items()
        if key in made and key in real and abs(real[key]) > 1e-9
    }


def spoken_figures(
    scenes: Sequence[Scene], expert: SyncExpert, basis: FaceBasis, side: str
) -> Figures:
    """Lips and sync of the motion itself, not rendered, on all clips."""
    scores, groups, verdicts = {}, {}, []
    for scene in scenes:
        motion = scene.spoken[side]
        between = interior_r(motion.interior, scene.interior)
        scores[scene.name] = replace(
            score_lips(lips(motion, basis), scene.lips), interior_r=between
        )
        groups[scene.name] = scene.group
        if scene.group != SUNG:
            verdicts.append(judged(*expert.vectors(motion, scene.sound)).confidence)
    out = _timed(grouped(scores, groups))
    whole = summarise(s for n, s in scores.items() if groups[n] != SUNG)
    out |= {k: whole[k] for k in ("opening_r", "width_r", "interior_r") if k in whole}
    return out | ({"sync_confidence": float(np.mean(verdicts))} if verdicts else {})


def expert_figures(scenes: Sequence[Scene], expert: SyncExpert) -> Figures:
    """The expert's own accuracy on the real clips: in step against five frames and more out of it.

    ``sync_accuracy``: right verdicts on windows of two seconds; ``sync_accuracy_short``: on clips
    that are shorter; ``sync_accuracy_<group>``; ``sync_found``: windows whose lag is found within
    two frames among 31.
    """
    pairs: dict[str, list[tuple[Array, Array]]] = {}
    for scene in scenes:
        if scene.group == SUNG:
            continue
        motion = later(scene.real.motion, scene.lag)
        vectors = expert.vectors(motion, scene.sound)
        if len(motion) >= 2 * FPS:
            pairs.setdefault("", []).append(vectors)
            pairs.setdefault(f"_{scene.group}", []).append(vectors)
        else:
            pairs.setdefault("_short", []).append(vectors)
    out = {}
    for ending, clips in pairs.items():
        figures = accuracy(clips)
        if figures:
            out[f"sync_accuracy{ending}"] = figures["accuracy"]
        if figures and not ending:
            out |= {"sync_found": figures["found"], "sync_windows": figures["windows"]}
    return out
