"""Whether a viewer gets what was asked for: gaze, distance and emotion, read off rendered video.

Real held-out people are driven, and our own face encoder tracks the pictures again. Whether a face
shows the emotion that was asked for is said by a judge that had no part in the training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.avatar import Avatar, Studio, load
from sfumato.controls import MotionOptions
from sfumato.corpus import ClipInfo
from sfumato.emotion_reader import EmotionReader
from sfumato.emotions import EMOTIONS
from sfumato.errors import InputError, SfumatoError
from sfumato.eval.iris import gaze_between, iris_places
from sfumato.eval.motion_clips import held_out_speech
from sfumato.eval.motion_lips import lip_series
from sfumato.eval.reenact import one_of_each_person, save_sheet
from sfumato.geometry.crop import cut, face_square
from sfumato.geometry.distances import eye_distance
from sfumato.latent import MotionFrame
from sfumato.media.audio import AudioReader
from sfumato.media.video import VideoReader
from sfumato.motion import MotionStream
from sfumato.timebase import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME

Image = NDArray[np.uint8]
Floats = NDArray[np.floating]
Say = Callable[[str], None]

YAWS, PITCHES = (-20.0, -10.0, 0.0, 10.0, 20.0), (-10.0, 0.0, 10.0)  # degrees
DISTANCES = (0.8, 0.9, 1.1, 1.25)
PEOPLE = 8
LOOKED_AT = 50  # pictures at the start of a clip among which the photo is chosen
LARGEST_YAW = 0.3  # radians: the photo is from the front
SIZE = 320
SPOKEN = 40  # frames of speech for every emotion
SHORTEST = SAMPLE_RATE  # samples: a sound track that ends sooner shows no speech
EVERY = 5  # frames from one that the judge sees to the next
CLOSED = 0.03  # lip opening over the outer-eye distance that a viewer takes for closed
TILE, FRAMED = 200, 1.35  # of the sheets: side in pixels, and in face sizes


@dataclass(frozen=True)
class Person:
    """A held-out person. Attributes: name, avatar of a frontal frame, clip it was taken from."""

    name: str
    avatar: Avatar
    clip: ClipInfo


def evaluate_controls(
    folder: Path,
    judge: Path | None = None,
    most: int = PEOPLE,
    report: Path | None = None,
    say: Say = print,
) -> dict[str, Any]:
    """Figures of gaze, distance and emotion.

    Args:
        folder: clips with ``index.tsv`` (real ones of its test split are taken), or any videos.
        judge: ONNX network, see :mod:`sfumato.emotion_reader`; without it nobody says what a face
            shows, and only the lips are measured under emotions.
        most: people.
        report: folder for sheets to look at.
    """
    studio = load()
    reader = EmotionReader(judge) if judge is not None else None
    silent = list(islice(people(studio, one_of_each_person(folder)), most))
    if not silent:
        raise InputError(f"No clip in {folder} shows a face from the front.")
    figures: dict[str, Any] = {"people": len(silent)}
    figures["gaze"], sheet = gaze(studio, silent)
    say(f"gaze {figures['gaze']}")
    _save(report, "gaze", sheet)
    figures["distance"] = distance(studio, silent)
    say(f"distance {figures['distance']}")
    able = (p for p in people(studio, speaking(folder)) if len(_sound(p.clip)) >= SHORTEST)
    figures["emotion"], sheet = emotion(studio, islice(able, most), reader, say)
    _save(report, "emotion", sheet)
    return figures


def speaking(folder: Path) -> list[ClipInfo]:
    """One clip of each held-out person with their own voice, people in the wild first."""
    first: dict[str, tuple[str, ClipInfo]] = {}
    for group, clip in held_out_speech(folder):
        if clip.kind == "real" and not group.endswith("_seen"):
            first.setdefault(clip.person or clip.name, (group, clip))
    return [clip for _, clip in sorted(first.values(), key=lambda item: item[0] == "grid")]


def people(studio: Studio, clips: list[ClipInfo]) -> Iterator[Person]:
    """Those whose clips show them from the front: the frame with the most neutral lips."""
    for clip in clips:
        with VideoReader(clip.path) as reader:
            frames = list(islice(reader, LOOKED_AT))[::10]
        found = []
        for frame in frames:
            faces = studio.encoder.faces(frame)
            if faces:
                latents = studio.basis.fit(faces[0].landmarks)
                if abs(latents.pose.yaw) < LARGEST_YAW:
                    open_lids = max(0.0, float(latents.expression[:2].mean()))
                    found.append((abs(float(latents.expression[2])) + open_lids, len(found), frame))
        if found:
            try:
                photo = min(found)[2]
                yield Person(clip.name, studio.avatar(photo, size=SIZE), clip)
            except SfumatoError:
                continue


# --- gaze and distance --------------------------------------------------------------------------


def gaze(studio: Studio, seen: list[Person]) -> tuple[dict[str, float], Image]:
    """Asked against seen, relative to the rest: mean error by axis in degrees, and slope.

    Seen is the place of the irises (:mod:`sfumato.eval.iris`); ``*_tracked`` is the slope of what
    our own face encoder makes of them.
    """
    grid = [(yaw, pitch) for pitch in PITCHES for yaw in YAWS]
    asked = [MotionOptions(head=0.0, gaze=_radians(pair)) for pair in grid]
    rest, *moments = moments_of(studio, [MotionOptions(head=0.0), *asked])
    got, followed, rows = [], [], []
    for person in seen:
        pictures = [person.avatar.renderer.render(frame).image for frame in (rest, *moments)]
        tracks = list(studio.encoder.follow(pictures))
        if not np.isfinite(np.array(tracks)).all():
            continue
        latents = studio.basis.fit(tracks[0])
        turned = np.array([studio.basis.fit_frame(latents, points).gaze for points in tracks])
        followed.append(np.degrees(turned[1:] - turned[0]))
        places = [iris_places(*pair) for pair in zip(pictures, tracks, strict=True)]
        looks = [gaze_between(place, places[0], tracks[0]) for place in places[1:]]
        got.append(np.degrees(np.array(looks)))
        shown = [grid.index(pair) for pair in ((-20, 0), (-10, 0), (0, 0), (10, 0), (20, 0))]
        shown += [grid.index((0, -10)), grid.index((0, 10))]
        rows.append(np.hstack([_tile(pictures[1 + i], tracks[1 + i]) for i in shown]))
    wanted, measured = np.array(grid), np.array(got)
    figures = {}
    for axis, name in enumerate(("yaw", "pitch")):
        error = measured[..., axis] - wanted[:, axis]
        figures[f"{name}_error"] = float(np.abs(error).mean())
        for key, sides in ((f"{name}_slope", measured), (f"{name}_tracked", followed)):
            slopes = [np.polyfit(wanted[:, axis], one[:, axis], 1)[0] for one in sides]
            figures[key] = float(np.mean(slopes))
    return figures, np.vstack(rows)


def _radians(pair: tuple[float, float]) -> tuple[float, float]:
    return float(np.radians(pair[0])), float(np.radians(pair[1]))


def distance(studio: Studio, seen: list[Person]) -> dict[str, float]:
    """Asked against the inverse of the outer-eye distance over that at rest: relative errors."""
    asked = [MotionOptions(head=0.0, distance=far) for far in DISTANCES]
    rest, *moments = moments_of(studio, [MotionOptions(head=0.0), *asked])
    errors = []
    for person in seen:
        pictures = [person.avatar.renderer.render(frame).image for frame in (rest, *moments)]
        tracks = np.array(list(studio.encoder.follow(pictures)))
        apart = eye_distance(tracks[..., :2])
        errors.append(apart[0] / apart[1:] / DISTANCES - 1)
    table = np.abs(errors)
    each = {f"error_{far:g}": float(table[:, k].mean()) for k, far in enumerate(DISTANCES)}
    return {"error": float(table.mean()), "worst": float(table.max())} | each


def moments_of(studio: Studio, options: list[MotionOptions]) -> list[MotionFrame]:
    """One moment of silence under each of the options: the same life, lids open."""
    made = []
    for each in options:
        stream = MotionStream(studio.generator, seed=0, options=each)
        made.append(stream.push(np.zeros(2 * SAMPLE_RATE, np.float32)))
    number = int(np.argmin(made[0].expression[:, :2].sum(axis=1)))
    return [motion[number] for motion in made]


# --- emotion ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """A rendered clip. Attributes: probabilities (T, k) or None, opening (T,), picture, tracks."""

    probabilities: Floats | None
    opening: Floats
    picture: Image
    points: Floats


def emotion(
    studio: Studio, speakers: Iterator[Person], reader: EmotionReader | None, say: Say
) -> tuple[dict[str, Any], Image | None]:
    """Every emotion at full strength on people who say what they said in their own clip."""
    rises: dict[str, list[float]] = {name: [] for name in EMOTIONS[1:]}
    lips: dict[str, list[tuple[float, float, float, float]]] = {n: [] for n in EMOTIONS[1:]}
    rows = []
    for person in speakers:
        real = lip_series(np.array(_followed(studio, person.clip)))[0]
        neutral = speak(studio, person, {}, reader)
        tiles = [_named("neutral", neutral)]
        for name in EMOTIONS[1:]:
            shown = speak(studio, person, {name: 1.0}, reader)
            tiles.append(_named(name, shown))
            lips[name].append(_lips(shown.opening, neutral.opening, real))
            if reader is not None and name in reader.classes:
                rises[name].append(rise(reader.classes.index(name), shown, neutral))
        rows.append(np.hstack(tiles))
        say(f"{person.name} " + " ".join(f"{n} {r[-1]:+.2f}" for n, r in rises.items() if r))
    if not rows:
        return {"skipped": "no held-out speech from the front"}, None
    figures: dict[str, Any] = {"people": len(rows), "lips": _lost(lips)}
    if reader is None:
        figures["skipped"] = "no --judge: nobody says what the faces show"
        return figures, np.vstack(rows)
    judged = {name: values for name, values in rises.items() if values}
    everything = np.concatenate(list(judged.values()))
    figures["moved"] = float((everything > 0).mean())
    figures["rise"] = float(everything.mean())
    figures["not_judged"] = [name for name, values in rises.items() if not values]
    for name, values in judged.items():
        figures[name] = {"moved": float(np.mean(np.array(values) > 0)), "rise": np.mean(values)}
    return figures, np.vstack(rows)


def rise(column: int, shown: Shown, neutral: Shown) -> float:
    """By how much the mean probability of a class is higher than without emotion."""
    if shown.probabilities is None or neutral.probabilities is None:
        return 0.0
    return float(shown.probabilities[:, column].mean() - neutral.probabilities[:, column].mean())


def speak(
    studio: Studio, person: Person, felt: dict[str, float], reader: EmotionReader | None
) -> Shown:
    """Renders the start of a person's own clip with an emotion and looks at it."""
    stream = MotionStream(studio.generator, options=MotionOptions(emotion=felt))
    motion = stream.push(_sound(person.clip))
    draw = person.avatar.renderer.render
    pictures = [draw(motion[number]).image for number in range(min(len(motion), SPOKEN))]
    tracks = np.array(list(studio.encoder.follow(pictures)))
    seen = [n for n in range(0, len(pictures), EVERY) if np.isfinite(tracks[n, 0, 0])]
    read = None
    if reader is not None:
        read = np.array([reader.read(pictures[n], tracks[n]) for n in seen])
    opening = lip_series(tracks)[0]
    # The sheet shows lips that are nearly closed and lids that are open: the same moment for all.
    lids = motion.expression[: len(pictures), :2].max(axis=1)
    calm = opening + 0.05 * (lids - lids.min())
    moment = min(seen, key=lambda n: float(calm[n]))
    return Shown(read, opening, pictures[moment], tracks[moment])


def _sound(clip: ClipInfo) -> NDArray[np.float32]:
    wanted = (SPOKEN + FPS) * SAMPLES_PER_FRAME  # enough for the look-ahead
    with AudioReader(clip.path) as reader:
        samples = np.concatenate([np.zeros(0, np.float32), *reader])
    return samples[:wanted].astype(np.float32)


def _followed(studio: Studio, clip: ClipInfo) -> list[Floats]:
    with VideoReader(clip.path) as reader:
        return list(studio.encoder.follow(islice(reader, SPOKEN)))


def correlation(one: Floats, other: Floats) -> float:
    """Of two series; 0 where one does not move."""
    spread = float(one.std() * other.std())
    return float(((one - one.mean()) * (other - other.mean())).mean() / spread) if spread else 0.0


def _lips(shown: Floats, neutral: Floats, real: Floats) -> tuple[float, float, float, float]:
    """Correlation with neutral, with the real clip, of neutral with it; closures kept, or NaN."""
    count = min(len(shown), len(neutral), len(real))
    shown, neutral, real = shown[:count], neutral[:count], real[:count]
    closed = neutral < CLOSED
    kept = float((shown[closed] < CLOSED + 0.01).mean()) if closed.any() else float("nan")
    alike = correlation(shown, neutral)
    return alike, correlation(shown, real), correlation(neutral, real), kept


def _lost(lips: dict[str, list[tuple[float, float, float, float]]]) -> dict[str, Any]:
    """What emotions cost the lips: shares of the correlation, by emotion and over all."""
    figures: dict[str, Any] = {}
    for name, rows in {"all": sum(lips.values(), []), **lips}.items():
        table = np.array(rows)
        alike, felt, plain = table[:, :3].mean(axis=0)
        figures[name] = {
            "lost_against_neutral": float(1 - alike),
            "lost_against_real": float(1 - felt / plain) if plain > 0 else None,
            "closures_kept": float(np.nanmean(table[:, 3])) if _any(table[:, 3]) else None,
        }
    return figures


def _any(values: Floats) -> bool:
    return bool(np.isfinite(values).any())


# --- sheets -------------------------------------------------------------------------------------


def _tile(picture: Image, points: Floats) -> Image:
    return cut(picture, face_square(points, FRAMED), TILE)


def _named(name: str, shown: Shown) -> Image:
    tile = _tile(shown.picture, shown.points).copy()
    cv2.putText(tile, name, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 0), 1, cv2.LINE_AA)
    return tile


def _save(report: Path | None, name: str, sheet: Image | None) -> None:
    if report is not None and sheet is not None:
        report.mkdir(parents=True, exist_ok=True)
        save_sheet(report / f"{name}.png", sheet)
