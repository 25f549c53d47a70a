"""Options and arguments that several commands share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.errors import InputError

if TYPE_CHECKING:
    from sfumato.motion import Options

FILES, QUALITY, MOTION, RUN = "Files", "Picture", "Motion", "Running"


def _checked_seed(seed: int) -> int:
    from sfumato.controls import check_seed

    check_seed(seed)
    return seed


Photo = Annotated[Path, typer.Argument(help="Picture with one face, any format.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Where to write.", rich_help_panel=FILES)
]
Force = Annotated[
    bool, typer.Option("--force", "-f", help="Replace an existing file.", rich_help_panel=FILES)
]
Size = Annotated[
    int,
    typer.Option(help="Side in pixels, 256 to 1024, a multiple of 8.", rich_help_panel=QUALITY),
]
FullFrame = Annotated[
    bool,
    typer.Option(
        "--full-frame", help="Keep the whole photo, not a square.", rich_help_panel=QUALITY
    ),
]
FaceNumber = Annotated[
    str, typer.Option(help="Which face: largest, or 1, 2, ... by size.", rich_help_panel=QUALITY)
]
Seed = Annotated[
    int,
    typer.Option(
        help="Another seed, other head motion and blinks; from 0.",
        callback=_checked_seed,
        rich_help_panel=MOTION,
    ),
]
Expressiveness = Annotated[
    float, typer.Option(help="Factor on the face's motion, 0 to 2.", rich_help_panel=MOTION)
]
Head = Annotated[
    float, typer.Option(help="Factor on the head's motion, 0 to 2.", rich_help_panel=MOTION)
]
Gaze = Annotated[
    str,
    typer.Option(
        metavar="YAW,PITCH",
        help="Where the eyes rest, degrees from ahead, up to 34: 10,-5.",
        rich_help_panel=MOTION,
    ),
]
Distance = Annotated[
    float,
    typer.Option(help="Of the head, over that in the photo, 0.8 to 1.25.", rich_help_panel=MOTION),
]
Emotion = Annotated[
    str,
    typer.Option(
        metavar="NAME[:STRENGTH]",
        help="happy, sad, angry, surprised, afraid, disgusted, contemptuous; with a strength up to"
        " 1: happy:0.6, or several: sad:0.5,afraid:0.3.",
        rich_help_panel=MOTION,
    ),
]
TimelineFile = Annotated[
    Path | None,
    typer.Option(
        "--timeline",
        help="JSON with these options at times, see docs/motion.md.",
        rich_help_panel=MOTION,
    ),
]
Threads = Annotated[
    int, typer.Option(min=0, help="CPU threads; 0 takes all cores.", rich_help_panel=RUN)
]


def motion_options(
    expressiveness: float,
    head: float,
    gaze: str,
    distance: float,
    timeline: Path | None,
    emotion: str = "neutral",
) -> Options:
    """What the options of a command ask of the motion.

    Raises:
        InputError: A value out of its range, or a broken timeline.
    """
    from sfumato.controls import MotionOptions, Timeline

    try:
        yaw, pitch = (math.radians(float(part)) for part in gaze.split(","))
    except ValueError:
        raise InputError(f'--gaze {gaze}: say yaw and pitch in degrees, like "10,-5".') from None
    felt = _strengths(emotion)
    options = MotionOptions(expressiveness, head, (yaw, pitch), distance, felt)
    return Timeline.load(timeline, options) if timeline else options


def _strengths(emotion: str) -> dict[str, float]:
    """Strengths by name of ``happy`` or ``sad:0.5,afraid:0.3``."""
    felt = {}
    for part in emotion.split(","):
        name, colon, strength = part.strip().partition(":")
        try:
            felt[name] = float(strength) if colon else 1.0
        except ValueError:
            wrong = f"--emotion {part}: say a name and a strength from 0 to 1, like happy:0.6."
            raise InputError(wrong) from None
    return felt
