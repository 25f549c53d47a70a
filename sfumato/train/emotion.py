"""Learns what emotions add to the face; writes the table of :mod:`sfumato.emotions`.

Three sources, one after the other. Action units (:mod:`sfumato.train.emotion_units`) say what is
known. Stills and clips that a teacher has read say what people do: a ridge regression of their
expression on the scores, drawn to the action units where there is little to learn from. At last
rendered faces of training people are changed, in small steps, so that the teacher reads them
better: a warp shows less of a wrinkle than skin does. Lips never part and both sides stay alike,
except for contempt, of which the teacher knows nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import sfumato
from sfumato.avatar import Avatar, Studio
from sfumato.contact import Contacts
from sfumato.corpus import ClipInfo, cleared_pictures, read_index
from sfumato.emotion_reader import EmotionReader
from sfumato.emotions import EMOTIONS, Emotions
from sfumato.errors import InputError, NoFaceError
from sfumato.geometry import topology as topo
from sfumato.latent import N_EXPRESSION, FaceBasis, MotionFrame
from sfumato.media.arrays import save_arrays
from sfumato.train.arkit import mirror_matrix
from sfumato.train.emotion_units import lip_gaps, recipes
from sfumato.train.face_data import frames_of

Array = NDArray[np.floating]

STYLES = {"photo", "bw", "painting"}
STILLS, CLIPS, CLIPS_OF_PERSON, FRAMES_OF_CLIP = 1500, 500, 8, 10
MAX_TURN = 0.4  # radians: beyond, teachers guess
TRUST = 150.0  # rows, by the sum of their squared scores, that weigh as much as a recipe
# The steps on rendered faces: how many, how long, over how many people.
STEPS, STRIDE, PEOPLE, PROBE = 2, 0.8, 6, 0.6
SPEAKING = 0.8  # of mouth_open: every second of the people is shown speaking
_STIFF = 4.0  # weight of the outline and the chin in a step: a feeling does not bend the head
# A smile thins lips, and trackers follow it.
SMILES = ("happy", "contemptuous")
# People who talk feel faintly; asked for in full a feeling is so many times as strong: it is seen
# across a room.
STRENGTH = {
    "happy": 1.8, "contemptuous": 1.6, "afraid": 1.4, "sad": 1.4, "surprised": 1.3, "disgusted": 1.2
}  # fmt: skip
# Outer and inner edge of the upper lip, inner and outer edge of the lower lip.
_THICK = ((0, 13), (39, 81), (269, 311), (14, 17), (178, 181), (402, 405))
_NEUTRAL = 0.5  # probability from which the teacher calls a still neutral
LEARNED = tuple(name for name in EMOTIONS if name not in {"neutral", "contemptuous"})


@dataclass(frozen=True)
class Rows:
    """Read faces. Attributes: expression (n, N), scores (n, 6) by LEARNED, neutral (n,), whose."""

    expression: Array
    scores: Array
    neutral: Array
    whose: list[str]


def train_emotion(
    stills: Path,
    labels: Path,
    clips: Path,
    tracks: Path,
    teacher: Path,
    target: Path,
    cleared: bool = False,
) -> dict[str, float]:
    """Learns the table and writes it.

    Args:
        teacher: ONNX, see :mod:`sfumato.emotion_reader`.
        cleared: only pictures and clips with a cleared licence.

    Returns:
        Figures by name: what was learned from, and the teacher's log-probability on rendered
        training people with the recipes and at last.

    Raises:
        InputError: No usable pictures or clips, or a teacher that lacks an emotion.
    """
    basis, reader = FaceBasis.load(), EmotionReader(teacher)
    if missing := set(LEARNED) - set(reader.classes):
        raise InputError(f"{teacher} does not know {', '.join(sorted(missing))}")
    cache = target.parent / "cache"
    still_rows = _kept(
        cache / "emotion_stills.npz", lambda: read_stills(stills, labels, basis, reader, cleared)
    )
    clip_rows = _kept(
        cache / "emotion_clips.npz", lambda: read_clips(clips, tracks, basis, reader, cleared)
    )
    known = recipes(basis)
    prior = np.array([known[name] for name in LEARNED])
    free = free_directions(basis)
    mean, shares = blend([still_rows, clip_rows], prior, free, basis)
    people = neutral_people(stills, still_rows)
    stiffness = free.T @ _stiffness(basis) @ free
    table = np.zeros((len(EMOTIONS), N_EXPRESSION))
    figures = {"stills": float(len(still_rows.whose)), "frames": float(len(clip_rows.whose))}
    for number, name in enumerate(LEARNED):
        figures[f"{name}, share of data"] = float(shares[number])
        seen = Face(people, reader, name)
        figures[f"{name}, recipe"] = float(np.mean(seen.readings(prior[number])))
        found = seen.climb(mean[number], free, stiffness)
        figures[f"{name}, learned"] = float(np.mean(seen.readings(found)))
        table[EMOTIONS.index(name)] = found
    table[-1] = known["contemptuous"]
    grave = [n for n, name in enumerate(EMOTIONS) if name not in SMILES]
    table[grave] = keep_lips(basis, table[grave])
    for name, factor in STRENGTH.items():
        table[EMOTIONS.index(name)] *= factor
    Emotions(table.astype(np.float32), shut_lids(basis, table)).save(target)
    return figures


def _kept(path: Path, make: Callable[[], Rows]) -> Rows:
    """Rows of an earlier run, or new ones: reading takes minutes."""
    if not path.exists():
        rows = make()
        save_arrays(
            path,
            {"e": rows.expression, "s": rows.scores, "n": rows.neutral, "w": np.array(rows.whose)},
        )
    with np.load(path) as stored:
        return Rows(stored["e"], stored["s"], stored["n"], stored["w"].tolist())


def read_stills(
    folder: Path, labels: Path, basis: FaceBasis, reader: EmotionReader, cleared: bool
) -> Rows:
    """Training stills from the front with what the teacher reads."""
    with np.load(labels) as stored:
        files, points, style, split = (
            stored[name] for name in ("files", "landmarks", "style", "split")
        )
    allowed = cleared_pictures(folder) if cleared else None
    found: list[tuple[str, Array, Array]] = []
    for number in np.random.default_rng(0).permutation(len(files)):
        name, face = str(files[number]), points[number]
        wanted = split[number] == "train" and style[number] in STYLES and np.isfinite(face).all()
        if not wanted or (allowed is not None and name not in allowed):
            continue
        latents = basis.fit(face)
        if max(abs(latents.pose.yaw), abs(latents.pose.pitch)) > MAX_TURN:
            continue
        picture = cv2.imread(str(folder / name))
        if picture is None:
            continue
        image = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
        found.append((name, latents.expression, reader.read(image, face)))
        if len(found) >= STILLS:
            break
    return _rows(found, reader)


def read_clips(
    folder: Path, tracks: Path, basis: FaceBasis, reader: EmotionReader, cleared: bool
) -> Rows:
    """Frames of real training clips with what the teacher reads, people in turn."""
    people: defaultdict[str, list[ClipInfo]] = defaultdict(list)
    for clip in read_index(folder, cleared):
        if clip.teaches and clip.kind == "real":
            people[clip.person].append(clip)
    turns = [c[i] for i in range(CLIPS_OF_PERSON) for c in people.values() if i < len(c)]
    found: list[tuple[str, Array, Array]] = []
    for clip in turns[:CLIPS]:
        path = tracks / f"{clip.name}.npz"
        if not path.exists():
            continue
        with np.load(path) as stored:
            points = stored["landmarks"].astype(np.float64)
        try:
            person, motion = basis.fit_clip(points)
        except NoFaceError:
            continue
        front = np.abs(motion.pose[:, 0] + person.pose.yaw) < MAX_TURN
        usable = np.flatnonzero(np.isfinite(points[:, 0, 0]) & front)
        chosen = usable[:: max(1, len(usable) // FRAMES_OF_CLIP)][:FRAMES_OF_CLIP]
        for number, image in frames_of(clip.path, set(chosen.tolist())).items():
            scores = reader.read(image, points[number])
            found.append((clip.person, motion.expression[number], scores))
    return _rows(found, reader)


def _rows(found: list[tuple[str, Array, Array]], reader: EmotionReader) -> Rows:
    if not found:
        raise InputError("No usable faces in these pictures and clips: make labels by teacher.py.")
    scores = np.array([row[2] for row in found])
    columns = [reader.classes.index(name) for name in LEARNED]
    neutral = scores[:, reader.classes.index("neutral")] if "neutral" in reader.classes else None
    whose = [row[0] for row in found]
    expression = np.array([row[1] for row in found], np.float64)
    bare = 1 - scores[:, columns].sum(axis=1)
    return Rows(expression, scores[:, columns], bare if neutral is None else neutral, whose)


def regress(parts: list[Rows]) -> tuple[Array, Array]:
    """What goes with full scores (6, N_EXPRESSION), and how many full scores were seen (6,).

    Every face is seen from its person's own median: in clips that is the person's usual face, and
    stills, one of each person, are seen from the median of all. Many rows of one person count as
    the square root of their number.
    """
    left, right = np.eye(len(LEARNED)), np.zeros((len(LEARNED), N_EXPRESSION))
    for rows in parts:
        counts = Counter(rows.whose)
        whose = np.array(rows.whose)
        x, p = rows.expression.copy(), rows.scores.copy()
        single = len(counts) == len(whose)
        for person in ["all"] if single else counts:
            own = np.ones(len(whose), bool) if single else whose == person
            x[own] -= np.median(x[own], axis=0)
            p[own] -= p[own].mean(axis=0)
        weight = np.array([counts[person] ** -0.5 for person in rows.whose])[:, None]
        left = left + (p * weight).T @ p
        right = right + (p * weight).T @ x
    return np.linalg.solve(left, right), np.diag(left)


def blend(parts: list[Rows], prior: Array, free: Array, basis: FaceBasis) -> tuple[Array, Array]:
    """Recipes and data (6, N_EXPRESSION), and the data's share (6,).

    Scores are noisy, which shortens what a regression finds: it tells the way, the recipe how far.
    It counts by how much was seen, and by how far both agree: a way that does not resemble the
    known one is the teacher's error.
    """
    ways, seen = regress(parts)
    skin = basis.expression[:, : topo.N_FACE, :2].reshape(N_EXPRESSION, -1)
    known = prior @ free @ free.T
    ways = ways @ free @ free.T
    far, way = known @ skin, ways @ skin
    lengths = np.linalg.norm(far, axis=1), np.maximum(np.linalg.norm(way, axis=1), 1e-9)
    agreed = np.clip((far * way).sum(axis=1) / (lengths[0] * lengths[1]), 0, 1)
    share = agreed * seen / (seen + TRUST)
    ways = ways * (lengths[0] / lengths[1])[:, None]
    return known + share[:, None] * (ways - known), share


def free_directions(basis: FaceBasis) -> Array:
    """(N_EXPRESSION, m) orthonormal: both sides alike, and the lips stay as they are."""
    mirror = np.eye(N_EXPRESSION) + mirror_matrix(basis)[:N_EXPRESSION, :N_EXPRESSION]
    left, sizes, _ = np.linalg.svd(mirror.T)
    alike = left[:, sizes > 1]  # 2 for what both sides do, 0 for what one does against the other
    turned, opens, _ = np.linalg.svd(alike.T @ lip_gaps(basis))
    free: Array = alike @ turned[:, int((opens > 1e-3 * opens[0]).sum()) :]
    return free


def _stiffness(basis: FaceBasis) -> Array:
    """(N, N): the mean square by which a step moves the skin, and a floor."""
    weight = np.ones(topo.N_FACE)
    weight[list(topo.FACE_OVAL) + [199, 175, 200, 171, 396]] = _STIFF
    rows = (basis.expression[:, : topo.N_FACE, :2] * weight[:, None]).reshape(N_EXPRESSION, -1)
    square = rows @ rows.T
    stiff: Array = square / np.trace(square) * N_EXPRESSION + 0.3 * np.eye(N_EXPRESSION)
    return stiff


def neutral_people(folder: Path, rows: Rows) -> list[Avatar]:
    """Portraits of some stills whose face the teacher calls neutral."""
    studio: Studio = sfumato.load(1)
    people: list[Avatar] = []
    for number in np.flatnonzero(rows.neutral > _NEUTRAL):
        try:
            people.append(studio.avatar(folder / rows.whose[number], size=256))
        except NoFaceError:
            continue
        if len(people) == PEOPLE:
            break
    if not people:
        raise InputError(f"No neutral face found among the stills in {folder}.")
    return people


class Face:
    """How clearly the teacher reads one emotion off rendered people."""

    def __init__(self, people: list[Avatar], reader: EmotionReader, emotion: str) -> None:
        self._people, self._reader = people, reader
        self._column = reader.classes.index(emotion)

    def readings(self, expression: Array) -> Array:
        """Log-probability of the emotion (P,), every second person speaking."""
        return np.array([self._reading(n, expression) for n in range(len(self._people))])

    def _reading(self, number: int, expression: Array) -> float:
        shown = np.asarray(expression, np.float32).copy()
        shown[2] += SPEAKING * (number % 2)
        frame = replace(MotionFrame.neutral(), expression=shown)
        drawn = self._people[number].renderer.render(frame)
        probability = self._reader.read(drawn.image, drawn.landmarks)[self._column]
        return float(np.log(probability + 0.002))

    def climb(self, start: Array, free: Array, stiffness: Array) -> Array:
        """Steps along the slope, measured by small changes of every free direction."""
        best = start
        for _ in range(STEPS):
            here = self.readings(best)
            slope = [(self.readings(best + PROBE * way) - here).mean() / PROBE for way in free.T]
            step = np.linalg.solve(stiffness, slope)
            best = best + free @ step * (STRIDE / max(float(np.linalg.norm(step)), 1e-9))
        return best


def keep_lips(basis: FaceBasis, table: Array) -> Array:
    """The nearest table that neither parts nor thins the lips.

    Thin lips hide small openings from a viewer, and from every tracker.
    """
    e = basis.expression[:, :, 1]
    thick = np.stack([e[:, low] - e[:, up] for up, low in _THICK], axis=1)
    held = np.c_[lip_gaps(basis), thick]
    soft = np.linalg.solve(_stiffness(basis), held)
    # Neighbouring pairs tell almost the same: what is hardly independent is left out.
    kept: Array = table - table @ held @ np.linalg.pinv(held.T @ soft, 1e-5) @ soft.T
    return kept


def shut_lids(basis: FaceBasis, table: Array) -> NDArray[np.float32]:
    """(8, 2) blinks that undo what the other coefficients of each row do to the lids."""
    rims = Contacts.of(basis.mean).lids
    shut = np.zeros((len(table), 2), np.float32)
    for number, row in enumerate(table):
        moves = np.tensordot(row[2:], basis.expression[2:], axes=1)
        for eye, rim in enumerate(rims):
            closing = rim.gaps(basis.expression[eye])[1:6, 1].mean()
            shut[number, eye] = -rim.gaps(moves)[1:6, 1].mean() / closing
    return shut
