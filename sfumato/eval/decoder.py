"""The learned decoder against the explicit renderer: the same clips, frames, boxes and judges.

One frame of a real clip drives the rest, drawn by both; both are compared with the clip itself.
What the clip tells beside its landmarks (interior, skin, light) the explicit renderer cannot use;
the learned side is drawn with it and, as ``untold``, without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.corpus import ClipInfo, read_index, taught_people
from sfumato.errors import InputError, SfumatoError, refusals
from sfumato.eval.decoder_sheets import PEOPLE, Sheets, moments
from sfumato.eval.motion_lips import lip_series
from sfumato.eval.perceptual import SIDES, Perceptual
from sfumato.eval.recognise import Recogniser
from sfumato.eval.reenact import (
    Box,
    Reenactment,
    boxes_of,
    differences,
    one_of_each_person,
    prepare_clip,
)
from sfumato.geometry import topology
from sfumato.geometry.distances import eye_distance
from sfumato.landmarks import Face, FaceEncoder
from sfumato.latent import FaceBasis, MotionFrame
from sfumato.render.decoder import Decoder
from sfumato.render.light import Light
from sfumato.render.renderer import Renderer
from sfumato.render.slide import Slide

Image = NDArray[np.uint8]
Floats = NDArray[np.floating]
Figures = dict[str, float]

FRAMES = 60  # consecutive frames of each clip: flicker is measured on all,
STEP = 3  # everything else on every third
OPEN = 0.06  # from this inner opening on, in outer-eye distances, a mouth counts as open
SEEN = 0.75  # share of a box that must lie inside the clip's picture
DRAWN = ("explicit", "untold", "learned")
DETAIL = 1.5  # pixels: what is finer than this Gaussian counts as sharp
LIPS = sorted({*topology.OUTER_LIPS, *topology.INNER_LIPS})


@dataclass(frozen=True)
class Judges:
    """Who looks at the pictures; ``recogniser`` is None where identity is not judged."""

    encoder: FaceEncoder
    perceptual: Perceptual
    recogniser: Recogniser | None


@dataclass(frozen=True)
class Shot:
    """One moment of a clip, drawn by both sides.

    Attributes:
        pictures: :data:`DRAWN` and ``real``, each (S, S, 3) uint8 RGB on the canvas.
        asked: (478, 3) float32, the landmarks that both sides were to draw, canvas pixels.
        boxes: of mouth, eyes and face, the same for all.
    """

    pictures: dict[str, Image]
    asked: Floats
    boxes: dict[str, Box]


def evaluate_decoder(
    folder: Path,
    decoder: Decoder | None,
    most: int | None = None,
    report: Path | None = None,
    identity: Path | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> dict[str, Any]:
    """Both sides on real clips of held-out people, one clip of each person.

    Args:
        folder: clips with ``index.tsv`` (its test split is taken), or any videos.
        decoder: mends the frames of the learned side; with None only skin and light are learned.
        most: clips at most, spread evenly; all of them with None.
        report: folder for :class:`Sheets`.
        identity: folder of a :class:`Recogniser`.
        progress: called with frames done and frames in all.

    Returns:
        :func:`summary` of all clips, of ``strangers`` (no clip of theirs is in the training split),
        of those ``by_size`` of their pictures, every one of ``clips``, and why some were
        ``skipped``.

    Raises:
        InputError: No clip that could be used.
    """
    chosen = _spread(one_of_each_person(folder), most)
    recogniser = Recogniser(identity) if identity else None
    judges = Judges(FaceEncoder.load(), Perceptual(), recogniser)
    basis, usual = FaceBasis.load(), (Slide.load(), Light.load())
    taught = taught_people(read_index(folder))
    sheets, shown = Sheets(), {info.name for info in _spread(chosen, PEOPLE)}
    clips: dict[str, dict[str, Any]] = {}
    skipped: dict[str, str] = {}
    for done, info in enumerate(chosen):
        try:
            clip = prepare_clip(info.path, judges.encoder, basis, FRAMES + 1, usual)
            explicit = Renderer(clip.portrait, basis)
            learned = Renderer(clip.portrait, basis, *usual, decoder)
            wanted = sheets if report and info.name in shown else None
            figures = compare(clip, (explicit, learned), judges, wanted)
            stranger = info.who not in taught
            clips[info.name] = {"size": info.size, "stranger": stranger} | figures
        except SfumatoError as error:
            skipped[info.name] = str(error)
        if progress is not None:
            progress((done + 1) * FRAMES, len(chosen) * FRAMES)
    if not clips:
        raise InputError(f"{folder}: no usable real clip of the test split{refusals(skipped)}")
    if report is not None:
        sheets.save(report)
    sizes = sorted({clip["size"] for clip in clips.values()} - {0}, reverse=True)
    by_size = {s: summary(c for c in clips.values() if c["size"] == s) for s in sizes}
    strangers = [clip for clip in clips.values() if clip["stranger"]]
    apart = {"strangers": summary(strangers)} if strangers else {}
    whole = summary(clips.values()) | apart | {"by_size": {str(s): v for s, v in by_size.items()}}
    return whole | {"clips": clips, "skipped": skipped}


def compare(
    clip: Reenactment,
    sides: tuple[Renderer, Renderer],
    judges: Judges,
    sheets: Sheets | None = None,
) -> dict[str, Any]:
    """Figures of one clip: of :data:`DRAWN` and of ``real`` (the clip judged by itself).

    A figure is the mean over frames, for sharpness the median (of the mouth where it is open);
    what could not be measured is left out.

    Args:
        sides: the explicit and the learned renderer of ``clip.portrait``.
        sheets: where to add the clip's most telling moments.
    """
    if len(clip.motion) < 4:
        raise InputError(f"only {len(clip.motion)} frames: flicker needs 4; use a longer clip")
    found: dict[str, list[Figures]] = {name: [] for name in (*DRAWN, "real")}
    flicker = {name: Flicker() for name in found}
    is_open = lip_series(clip.truth)[0] > OPEN
    canvas, recogniser = clip.portrait.canvas, judges.recogniser
    source = recogniser.embed(canvas.image, canvas.landmarks) if recogniser else None
    if sheets:
        show(clip, sides, sheets)
    for number in range(1, len(clip.motion)):
        shot = draw(clip, sides, number)
        for name, picture in shot.pictures.items():
            flicker[name].add(picture, shot.boxes["face"])
        if number % STEP == 1:
            for name, figures in judge(shot, clip.valid, judges, source).items():
                # A closed mouth has no teeth and no tongue: its detail says little.
                if not is_open[number]:
                    figures.pop("mouth_sharpness", None)
                found[name].append(figures)
    result: dict[str, Any] = {"frames": len(clip.motion) - 1}
    for name, rows in found.items():
        ratio = flicker[name].mean() / max(flicker["real"].mean(), 1e-6)
        result[name] = {**_collected(rows), "flicker": ratio}
    return result


def draw(clip: Reenactment, sides: tuple[Renderer, Renderer], number: int) -> Shot:
    """Frame ``number`` of the clip by both sides; beyond the clip's picture all show the same."""
    real = clip.real(number)
    (explicit, learned), told = sides, clip.motion[number]
    bare = MotionFrame(told.pose, told.expression, told.gaze, told.breath)
    first = explicit.render(told)
    drawn = first, learned.render(bare), learned.render(told)
    pictures = {
        name: np.where(clip.valid[..., None], out.image, real)
        for name, out in zip(DRAWN, drawn, strict=True)
    }
    return Shot(pictures | {"real": real}, first.landmarks, boxes_of(first))


def show(clip: Reenactment, sides: tuple[Renderer, Renderer], sheets: Sheets) -> None:
    """Add the clip's :func:`moments` to the sheets."""
    canvas = clip.portrait.canvas
    rest = boxes_of(sides[0].render(clip.motion[0]))
    for moment, number in moments(clip).items():
        drawn = [side.render(clip.motion[number]) for side in sides]
        there = boxes_of(drawn[0])
        real = np.where(clip.valid[..., None], clip.real(number), np.uint8(0))
        pictures = (canvas.image, *(out.image for out in drawn), real)
        sheets.add(moment, pictures, (rest, there, there, there))


def judge(
    shot: Shot, valid: NDArray[np.bool_], judges: Judges, source: Floats | None
) -> dict[str, Figures]:
    """Figures of one frame for :data:`DRAWN` and, where it makes sense, ``real``.

    Keys: those of :func:`differences`, ``<part>_perceptual``, ``<part>_sharpness``,
    ``landmarks_mouth_error`` (only where a face is found), ``identity`` (only with a ``source``,
    the recogniser's vector of the source photo). A part that the clip cuts off is left out.
    """
    real = shot.pictures["real"]
    boxes = {n: b for n, b in shot.boxes.items() if valid[b[1] : b[3], b[0] : b[2]].mean() > SEEN}
    result: dict[str, Figures] = {name: {} for name in shot.pictures}
    sides = {name: shot.pictures[name] for name in DRAWN}
    for name, picture in sides.items():
        result[name] |= differences(picture, real, valid, boxes)
        for part, box in boxes.items():
            result[name][f"{part}_sharpness"] = sharpness(picture, real, box)
    for part, box in boxes.items():
        apart = judges.perceptual.distances(part, box, list(sides.values()), real)
        for name, value in zip(sides, apart, strict=True):
            result[name][f"{part}_perceptual"] = value
    for name, picture in shot.pictures.items():
        error = lip_error(judges.encoder, picture, shot.asked)
        if error is not None and "mouth" in boxes:
            result[name]["landmarks_mouth_error"] = error
        if judges.recogniser is not None and source is not None and "face" in boxes:
            seen = judges.recogniser.embed(picture, shot.asked)
            result[name]["identity"] = float(seen @ source)
    return result


def sharpness(made: Image, real: Image, box: Box) -> float:
    """Energy of fine detail in a box of a picture over that of the real picture; 1 is right.

    Where the clip is smaller than the canvas the real picture was enlarged and is soft: there any
    teeth drawn at full resolution give several times its energy.
    """
    return detail(made, box) / max(detail(real, box), 1e-6)


def detail(image: Image, box: Box) -> float:
    """Mean square of what a Gaussian of :data:`DETAIL` pixels takes from a box, in grey (0..255).

    Args:
        image: (S, S, 3) uint8 RGB.
    """
    x0, y0, x1, y1 = box
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine = grey - cv2.GaussianBlur(grey, (0, 0), DETAIL)
    return float(np.square(fine[y0:y1, x0:x1]).mean())


def lip_error(encoder: FaceEncoder, image: Image, asked: Floats) -> float | None:
    """Mean distance of tracked lip points from ``asked``, percent of the outer-eye distance.

    Args:
        image: (S, S, 3) uint8 RGB.
        asked: (478, 3) landmarks, pixels; the tracker looks for the face there.

    Returns:
        None where no face is found.
    """
    face = encoder.track(image, Face(np.asarray(asked, np.float32), 1.0))
    if face is None:
        return None
    return lips_apart(face.landmarks, asked)


def lips_apart(got: Floats, asked: Floats) -> float:
    """Mean distance in the picture of the points of the lips, percent of the eyes' distance."""
    apart = np.linalg.norm(got[LIPS, :2] - asked[LIPS, :2], axis=1).mean()
    return float(100 * apart / eye_distance(asked))


class Flicker:
    """Mean absolute second difference in time of the pictures added, in a box that moves along.

    Steady motion counts nothing, shimmer and jumps count.
    """

    def __init__(self) -> None:
        self._last: list[tuple[NDArray[np.int16], Box]] = []
        self._values: list[float] = []

    def add(self, image: Image, box: Box) -> None:
        """The next frame (S, S, 3) uint8 and where to look in it."""
        self._last = [*self._last[-2:], (image.astype(np.int16), box)]
        if len(self._last) == 3:
            (before, _), (now, (x0, y0, x1, y1)), (after, _) = self._last
            part = np.s_[y0:y1, x0:x1]
            bend = before[part] - 2 * now[part] + after[part]
            self._values.append(float(np.abs(bend).mean()))

    def mean(self) -> float:
        """Over all triples of neighbours; 0..1020."""
        return float(np.mean(self._values))


def summary(clips: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Means over clips, each counting the same, and what they say of learned against explicit."""
    found = list(clips)
    means = {name: _means([clip[name] for clip in found]) for name in (*DRAWN, "real")}
    explicit, learned, real = means["explicit"], means["learned"], means["real"]
    result: dict[str, Any] = {"count": len(found)}
    for key in explicit:
        if key.endswith(("_l1", "_perceptual")):
            result[f"{key}_ratio"] = _over(learned[key], explicit[key])
            result[f"{key}_ratio_untold"] = _over(means["untold"][key], explicit[key])
    for key in (*(f"{part}_sharpness" for part in SIDES), "flicker"):
        result |= {f"{key}_explicit": explicit.get(key), f"{key}_learned": learned.get(key)}
    key = "landmarks_mouth_error"
    for ending, side in (("", learned), ("_explicit", explicit), ("_real", real)):
        result[key + ending] = side.get(key)
    if "identity" in real:
        result["identity_ratio"] = _over(learned["identity"], real["identity"])
        result["identity_explicit_ratio"] = _over(explicit["identity"], real["identity"])
    return result | means


def _collected(rows: list[Figures]) -> Figures:
    """Figures of a clip from those of its frames: means, the median for sharpness."""
    result = _means(rows)
    for key in (f"{part}_sharpness" for part in SIDES):
        if key in result:
            result[key] = float(np.median([row[key] for row in rows if key in row]))
    return result


def _means(rows: list[Figures]) -> Figures:
    """Means by key over the rows that have it."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: float(np.mean([row[key] for row in rows if key in row])) for key in keys}


def _over(value: float, reference: float) -> float | None:
    """The ratio; None where there is nothing to compare with."""
    return value / reference if reference else None


def _spread(clips: list[ClipInfo], most: int | None) -> list[ClipInfo]:
    """At most ``most`` of the clips, evenly over the list."""
    count = min(len(clips), most or len(clips))
    return [clips[i * len(clips) // count] for i in range(count)]
