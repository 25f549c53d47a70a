"""Motion from sound, as a viewer sees it: rendered, tracked again, held against real people.

Every measure is taken alike of the rendered video, of the real clip, of the rendering out of step
and, where one is given, of a baseline generator: figures without a neighbour say little.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.avatar import Studio, load
from sfumato.corpus import ClipInfo
from sfumato.errors import InputError, SfumatoError, refusals
from sfumato.eval.motion_clips import held_out_speech
from sfumato.eval.motion_figures import (
    SUNG,
    cloud_distances,
    expert_figures,
    judge,
    ratios,
    side_figures,
    spoken_figures,
)
from sfumato.eval.motion_long import drift, minute_of, rest_in_silence, seeds
from sfumato.eval.motion_phones import phone_scores
from sfumato.eval.motion_sheets import save_sheets
from sfumato.eval.motion_takes import SECONDS, Scene, Speak, read_scene, regression, speaker
from sfumato.eval.sync import SyncExpert
from sfumato.latent import FaceBasis
from sfumato.motion import MotionGenerator
from sfumato.timebase import FPS

Progress = Callable[[int, "int | None"], None]
SHOWN = 8  # clips in the sheets
# Seconds of rendering that take as long as four times ten minutes of motion alone, two at a time,
# and the share of a rendered frame's time that tracking the real one takes.
LONG, TRACKED = 150, 0.2


def evaluate_motion(
    folder: Path,
    most: int | None = None,
    report: Path | None = None,
    baseline: Path | None = None,
    progress: Progress | None = None,
    weights: Path | None = None,
) -> dict[str, Any]:
    """Measures a generator on clips that it never learned from.

    Args:
        folder: clips with ``index.tsv`` (its held-out clips are taken), or any videos with sound.
        most: clips that are rendered at most; the others are judged by their motion alone.
        report: folder for sheets.
        baseline: folder of another generator's networks, to be measured alike; the regression on
            sound alone if left out.
        progress: called with frames done and frames in all.
        weights: folder of speech.onnx and motion.onnx; the shipped ones if left out.

    Returns:
        Figures of the rendered motion, and ``real``, ``shifted``, ``baseline`` with the same keys;
        ``spoken``: lips of the motion itself on all clips; ``clips`` and ``skipped``.

    Raises:
        InputError: No clip that could be used.
    """
    studio, expert = load(), SyncExpert.load()
    generator = MotionGenerator.load(weights) if weights else studio.generator
    other = MotionGenerator.load(baseline) if baseline else regression(generator)
    speakers = {"made": speaker(generator), "baseline": speaker(other)}
    plan = Plan.of(folder, most, len(speakers))
    scenes, skipped = _scenes(studio, plan, speakers, report is not None, progress)
    if not scenes:
        raise InputError(f"{folder}: no usable clip with a face and its sound{refusals(skipped)}")
    drawn = [scene for scene in scenes if scene.takes]
    verdicts = [judge(scene, expert) for scene in drawn]
    sides = {
        side: side_figures(drawn, verdicts, side) | cloud_distances(drawn, verdicts, side)
        for side in dict.fromkeys(("made", "real", "shifted", *speakers))
    }
    for number, (side, speak) in enumerate(speakers.items(), 1):
        sides[side] |= ratios(sides[side], sides["real"])
        sides[side] |= alone(speak, scenes, studio.basis)
        sides[side]["spoken"] = spoken_figures(scenes, expert, studio.basis, side)
        if progress is not None:
            progress(plan.total - (len(speakers) - number) * LONG * FPS, plan.total)
    sides["shifted"] |= ratios(sides["shifted"], sides["real"])
    if report is not None:
        save_sheets(report, [scene for scene in scenes if scene.real.mouths])
    figures: dict[str, Any] = sides.pop("made") | expert_figures(scenes, expert) | sides
    figures["rendered"] = len(drawn)
    figures["clips"] = {
        scene.name: {"group": scene.group}
        | {side: vars(v.lips) | vars(v.sync) for side, v in verdict.items()}
        for scene, verdict in zip(drawn, verdicts, strict=True)
    }
    return plain(figures | {"skipped": skipped})


def plain(figures: Any) -> Any:
    """Figures for JSON: what could not be measured is None."""
    if isinstance(figures, dict):
        return {key: plain(value) for key, value in figures.items()}
    if isinstance(figures, list):
        return [plain(value) for value in figures]
    return None if isinstance(figures, float) and math.isnan(figures) else figures


@dataclass(frozen=True)
class Plan:
    """Which clips are judged, rendered and shown.

    Attributes:
        chosen: group and clip.
        rendered, shown: names.
        costs: of every clip, in frames that take as long as one rendered.
        total: of everything.
    """

    chosen: list[tuple[str, ClipInfo]]
    rendered: set[str]
    shown: set[str]
    costs: list[float]
    total: int

    @staticmethod
    def of(folder: Path, most: int | None, sides: int) -> Plan:
        """The held-out clips of a folder, for so many generators."""
        chosen = held_out_speech(folder)
        drawn = [info for _, info in held_out_speech(folder, most or len(chosen))]
        rendered = {info.name for info in drawn}
        shown = {info.name for info in [i for i in drawn if not 0 < i.seconds < 2][:SHOWN]}
        costs = [
            min(info.seconds or SECONDS, SECONDS)
            * FPS
            * (TRACKED + sides * (info.name in rendered))
            for _, info in chosen
        ]
        return Plan(chosen, rendered, shown, costs, int(sum(costs)) + sides * LONG * FPS)


def alone(speak: Speak, scenes: list[Scene], basis: FaceBasis) -> dict[str, Any]:
    """What needs no picture: silence, seeds, ten minutes, sounds known to the millisecond."""
    sounds = [scene.samples for scene in scenes if scene.group != SUNG] or [scenes[0].samples]
    minute = minute_of(sounds)
    figures: dict[str, Any] = {"rest_opening": rest_in_silence(speak, basis)}
    figures |= seeds(speak, minute) | drift(speak, minute, basis)
    return figures | phone_scores(speak, basis)


def _scenes(
    studio: Studio, plan: Plan, speakers: dict[str, Speak], sheets: bool, progress: Progress | None
) -> tuple[list[Scene], dict[str, str]]:
    """The clips and what was made of them; and why some were left out."""
    scenes: list[Scene] = []
    skipped: dict[str, str] = {}
    done = 0.0
    for (group, info), cost in zip(plan.chosen, plan.costs, strict=True):
        draws = info.name in plan.rendered
        wanted = sheets and info.name in plan.shown
        try:
            scenes.append(read_scene(studio, info, group, speakers, draws, wanted))
        except SfumatoError as error:
            skipped[info.name] = str(error)
        done += cost
        if progress is not None:
            progress(int(done), plan.total)
    return scenes, skipped
