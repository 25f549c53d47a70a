"""All evaluations in one go, and their figures as Markdown tables."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

SIDES = ("made", "real", "shifted", "baseline")
TITLES = {"made": "generated", "real": "real clip", "shifted": "out of step"}
# Rows of the table of motion: title, and the keys that belong to it.
MOTION = (
    (
        "Lips against the real clip",
        (
            "opening_r",
            "width_r",
            "interior_r",
            "lag_ms",
            "closure_rate",
            "false_closure",
            "amplitude",
        ),
    ),
    (
        "By group",
        tuple(
            f"{group}_{key}"
            for group in ("grid", "grid_seen", "wild", "wild_seen", "song", "all")
            for key in ("opening_r", "width_r", "interior_r", "closure", "clips")
        ),
    ),
    (
        "Sounds known to the millisecond",
        (
            "phones_closure",
            "phones_closure_chance",
            "phones_rounding",
            "phones_fv",
            "rest_opening",
        ),
    ),
    (
        "Sync expert",
        ("sync_confidence", "sync_ratio", "sync_distance", "sync_lag_ms"),
    ),
    (
        "Head and eyes",
        (
            *("delta_p", "delta_p_ratio", "yaw_spread", "pitch_spread", "roll_spread"),
            *("yaw_spread_ratio", "pitch_spread_ratio", "roll_spread_ratio", "nod_beat"),
            *("gaze_yaw_spread", "gaze_pitch_spread", "blink_rate", "blink_rate_ratio"),
            *("blink_duration", "blink_completeness"),
        ),
    ),
    (
        "As a whole",
        (
            *("frechet", "frechet_real", "diversity_pose", "diversity_face"),
            *("drift_max", "drift_max_chance", "drift_max_of", "drift_lips_max", "drift_sure"),
        ),
    ),
)
DECODER = tuple(
    f"{part}_{key}"
    for part in ("mouth", "eye", "face")
    for key in ("l1_ratio", "perceptual_ratio", "sharpness_learned")
) + ("flicker_learned", "landmarks_mouth_error", "identity_ratio")


def evaluate_all(
    folder: Path,
    most: int | None,
    report: Path | None,
    progress: Callable[[str], AbstractContextManager[Callable[[int, int | None], None]]],
) -> dict[str, Any]:
    """Decoder, motion and controls of the shipped product; sheets and ``report.md`` in ``report``.

    Args:
        folder: clips with ``index.tsv``, or any videos with sound.
        most: clips of each part at most.
        progress: a context manager for a title, to be called with frames done and in all.
    """
    from sfumato.eval.decoder import evaluate_decoder
    from sfumato.eval.motion import evaluate_motion
    from sfumato.render.decoder import Decoder

    parts = {name: report / name if report else None for name in ("decoder", "motion", "controls")}
    figures: dict[str, Any] = {}
    with progress("Comparing") as step:
        figures["decoder"] = evaluate_decoder(
            folder, Decoder.load(), most, parts["decoder"], None, step
        )
    with progress("Speaking") as step:
        figures["motion"] = evaluate_motion(folder, most, parts["motion"], None, step)
    figures["controls"] = _controls(folder, most, parts["controls"])
    if report is not None:
        report.mkdir(parents=True, exist_ok=True)
        (report / "report.md").write_text(whole_report(figures), encoding="utf8")
    return figures


def _controls(folder: Path, most: int | None, report: Path | None) -> dict[str, Any]:
    from sfumato.eval.controls import PEOPLE, evaluate_controls

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    return evaluate_controls(folder, most=most or PEOPLE, report=report, say=say)


def whole_report(figures: Mapping[str, Any]) -> str:
    """All parts as one Markdown text."""
    decoder = figures["decoder"]
    lines = ["# Evaluation", "", "## Decoder", "", "| measure | |", "|---|---|"]
    lines += [f"| {key} | {_shown(decoder[key])} |" for key in DECODER if key in decoder]
    lines += ["", motion_report(figures["motion"]).replace("# Motion", "## Motion", 1)]
    lines += ["", "## Controls", "", "| measure | |", "|---|---|"]
    lines += [f"| {key} | {_shown(value)} |" for key, value in flat(figures["controls"]).items()]
    return "\n".join(lines) + "\n"


def motion_report(figures: Mapping[str, Any]) -> str:
    """The figures of :func:`sfumato.eval.motion.evaluate_motion` as Markdown tables."""
    columns = [side for side in SIDES if side == "made" or side in figures]
    lines = ["# Motion", ""]
    lines.append(f"{figures.get('rendered', 0)} clips rendered and tracked again.")
    expert = {k: v for k, v in figures.items() if k.startswith("sync_accuracy")}
    told = ", ".join(f"{key} {_shown(value)}" for key, value in sorted(expert.items()))
    lines += [f"The sync expert's own accuracy on real clips: {told or 'not measured'}.", ""]
    for title, keys in MOTION:
        found = [key for key in keys if key in figures]
        if not found:
            continue
        lines.append(f"| {title} | " + " | ".join(TITLES.get(c, c) for c in columns) + " |")
        lines.append("|---" * (len(columns) + 1) + "|")
        for key in found:
            values = [(figures if c == "made" else figures[c]).get(key) for c in columns]
            lines.append(f"| {key} | " + " | ".join(_shown(v) for v in values) + " |")
        lines.append("")
    return "\n".join(lines)


def flat(figures: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Numbers and words of nested figures, by their keys joined with dots; lists are left out."""
    out: dict[str, Any] = {}
    for key, value in figures.items():
        if isinstance(value, Mapping):
            out |= flat(value, f"{before}{key}.")
        elif isinstance(value, int | float | str):
            out[f"{before}{key}"] = value
    return out


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
