"""Learns how motion shows as ARKit's blendshapes, from tracked clips.

The teacher is the network of MediaPipe's face landmarker that tells 52 scores from landmarks
(Apache-2.0; ``face_blendshapes.tflite`` inside ``face_landmarker.task``), run by
``ai-edge-litert``. A student with one layer learns from expression and gaze how far each score
rises over the person's neutral face, by Gauss-Newton steps. The displacement that goes with each
blendshape is a regression of the motion on what the student says, area by area, so that playing
the scores on the mean face gives back the motion as far as they can.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato.arkit import BLENDSHAPES, MIRROR, N_BLENDSHAPES, N_FEATURES, ArkitMap
from sfumato.contact import EYEBALL_RADIUS
from sfumato.corpus import ClipInfo, read_index
from sfumato.errors import InputError
from sfumato.geometry import topology as topo
from sfumato.geometry.ramp import smoothstep
from sfumato.latent import N_EXPRESSION, FaceBasis
from sfumato.tracks import read_track

Array = NDArray[np.floating]
Teacher = Callable[[Array], Array]

MAX_TURN = 0.4  # radians, yaw and pitch: beyond, the teacher's scores tell more of the pose
FRAMES_PER_CLIP, FRAMES_PER_PERSON = 100, 300
GAZE_UNIT = 0.1  # radians: about the usual deviation, so that one penalty fits all features
# A score that rises by less in all but 1 % of the frames, or that the student follows worse, is 0.
LEAST_RISE, LEAST_CORRELATION = 0.02, 0.3
USUAL_BIAS = -3.0
PENALTY, BIAS_PENALTY = 0.3, 1.0
TARGET_PENALTY = 0.001  # of the usual weight of all frames: how strongly targets are kept small
# What the teacher sees, as MediaPipe's face_blendshapes_graph.cc lists it.
# fmt: off
SEEN = (
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66,
    67, 70, 78, 80, 81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144,
    145, 146, 148, 149, 150, 152, 153, 154, 155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173,
    176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251, 263, 267, 269, 270, 276, 282, 283, 284,
    285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318, 321, 323, 324, 332,
    334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385, 386,
    387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466, 468, 469, 470, 471, 472, 473,
    474, 475, 476, 477,
)
# fmt: on
# The teacher's scores: a neutral one, then by the alphabet; it knows no tongue.
SCORES = ("_neutral", *sorted(set(BLENDSHAPES) - {"tongueOut"}))
_KNOWN = [k for k, name in enumerate(BLENDSHAPES) if name in SCORES]
_COLUMNS = [SCORES.index(BLENDSHAPES[k]) for k in _KNOWN]


def load_teacher(bundle: Path) -> Teacher:
    """The scoring network: landmarks (478, 2 or 3) in pixels to (52,) in ``BLENDSHAPES``' order.

    Args:
        bundle: MediaPipe's ``face_landmarker.task``.

    Raises:
        InputError: Not such a bundle, or ai-edge-litert is not installed.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ModuleNotFoundError:
        raise InputError(
            "The teacher needs ai-edge-litert: install it with  pip install ai-edge-litert"
        ) from None
    try:
        with zipfile.ZipFile(bundle) as parts:
            content = parts.read("face_blendshapes.tflite")
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{bundle} is no face_landmarker.task with blendshapes.") from error
    network = Interpreter(model_content=content, num_threads=1)
    network.allocate_tensors()
    given = network.get_input_details()[0]["index"]
    answer = network.get_output_details()[0]["index"]

    def score(landmarks: Array) -> Array:
        network.set_tensor(given, landmarks[list(SEEN), :2].astype(np.float32)[None])
        network.invoke()
        scores = np.zeros(N_BLENDSHAPES)
        scores[_KNOWN] = network.get_tensor(answer).ravel()[_COLUMNS]
        return scores

    return score


@dataclass(frozen=True)
class Rows:
    """Frames of many clips, each with its mirror image.

    Attributes:
        features: (n, N_FEATURES) expression and gaze.
        scores: (n, 52) the teacher's.
        rises: (n, 52) scores over the person's neutral face, as a share of what is left up to 1.
        weight: (n,) people count as the square root of their frames.
        clip: (n,) number of the clip.
        people: How many.
    """

    features: Array
    scores: Array
    rises: Array
    weight: Array
    clip: NDArray[np.integer]
    people: int


def mirror_matrix(basis: FaceBasis) -> Array:
    """(N_FEATURES, N_FEATURES): ``features @ matrix`` is what would be seen in a mirror."""
    flat = basis.expression.reshape(N_EXPRESSION, -1)
    image = (basis.expression[:, topo.MIRROR] * [-1, 1, 1]).reshape(N_EXPRESSION, -1)
    matrix = np.diag(np.r_[np.zeros(N_EXPRESSION), -1.0, 1.0])  # the gaze's yaw turns round
    matrix[:N_EXPRESSION, :N_EXPRESSION] = np.linalg.lstsq(flat.T, image.T, rcond=None)[0].T
    return matrix


def collect(clips: list[ClipInfo], tracks: Path, basis: FaceBasis, teacher: Teacher) -> Rows:
    """What the teacher says of the clips, and the motion that was fitted to them.

    Raises:
        InputError: No usable track.
    """
    taken: Counter[str] = Counter()
    found: list[tuple[str, Array, Array, Array]] = []
    for clip in clips:
        path = tracks / f"{clip.name}.npz"
        room = min(FRAMES_PER_CLIP, FRAMES_PER_PERSON - taken[clip.person])
        if room < 8 or not path.exists():
            continue
        frames = read_track(path, smooth=True)
        frames = frames[:: max(1, len(frames) // FRAMES_PER_CLIP)][:room]
        if len(frames) < 8:
            continue
        person, motion = basis.fit_clip(frames, smooth=False)
        turn = motion.pose[:, :2] + [person.pose.yaw, person.pose.pitch]
        front = np.abs(turn).max(axis=1) < MAX_TURN
        if not front.any():
            continue
        neutral = teacher(basis.landmarks(person))
        scores = np.array([teacher(frame) for frame in frames[front]])
        # A neutral face near 1 leaves nothing to learn from.
        rises = (scores - neutral) / np.maximum(1 - neutral, 0.3)
        found.append((clip.person, np.c_[motion.expression, motion.gaze][front], scores, rises))
        taken[clip.person] += len(rises)
    if not found:
        raise InputError(f"No usable tracks of these clips in {tracks}: make them with teacher.py.")
    weight = np.concatenate([np.full(len(x), taken[who] ** -0.5) for who, x, _, _ in found])
    number = np.concatenate([np.full(len(x), k) for k, (_, x, _, _) in enumerate(found)])
    x, scores, rises = (np.concatenate([row[k] for row in found]) for k in (1, 2, 3))
    flip = list(MIRROR)
    return Rows(
        np.r_[x, x @ mirror_matrix(basis)],
        np.r_[scores, scores[:, flip]],
        np.r_[rises, rises[:, flip]],
        np.r_[weight, weight],
        np.r_[number, number + len(found)],
        len(taken),
    )


def _student(x: Array, theta: Array) -> tuple[Array, Array]:
    """Rise (n,) of one score for theta (features + bias,), and its derivatives (n, len(theta))."""
    s, rest = (
        1 / (1 + np.exp(-np.clip(a, -40, 40))) for a in (x @ theta[:-1] + theta[-1], theta[-1])
    )
    rise = (s - rest) / (1 - rest)
    slope = s * (1 - s) / (1 - rest)
    of_bias = slope - rest + (s - rest) * rest / (1 - rest)
    return rise, np.c_[x * slope[:, None], of_bias]


def fit_score(x: Array, rise: Array, weight: Array, steps: int = 12) -> Array:
    """Weights and bias (N_FEATURES + 1,) of one score: Gauss-Newton with damping and a ridge.

    Args:
        x: (n, N_FEATURES), of about unit variance.
        rise: (n,) what to learn.
        weight: (n,).
        steps: At most so many.
    """
    weight = weight / weight.mean()
    usual = np.r_[np.zeros(x.shape[1]), USUAL_BIAS]
    ridge = np.r_[np.full(x.shape[1], PENALTY), BIAS_PENALTY]

    def cost(theta: Array) -> float:
        error = _student(x, theta)[0] - rise
        return float(weight @ error**2 + ridge @ (theta - usual) ** 2)

    theta, damping = usual, 0.01
    best = cost(theta)
    for _ in range(steps):
        said, slopes = _student(x, theta)
        pull = slopes.T @ (weight * (rise - said)) - ridge * (theta - usual)
        bend = (slopes * weight[:, None]).T @ slopes + np.diag(ridge)
        while damping < 1e6:
            new = theta + np.linalg.solve(bend + damping * np.diag(np.diag(bend)), pull)
            if (value := cost(new)) < best:
                break
            damping *= 10
        else:
            break
        done = best - value < 1e-4 * best
        theta, best, damping = new, value, damping / 10
        if done:
            break
    return theta


def within_clips(rows: Rows, said: Array) -> Array:
    """(52,) correlation of said (n, 52) with the teacher's scores after each clip's mean."""
    moved = []
    for values in (said, rows.scores):
        sums = np.zeros((rows.clip.max() + 1, N_BLENDSHAPES))
        np.add.at(sums, rows.clip, values)
        moved.append(values - (sums / np.bincount(rows.clip)[:, None])[rows.clip])
    a, b = moved
    scale = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    correlation: Array = (a * b).sum(axis=0) / np.maximum(scale, 1e-9)
    return correlation


def fit_scores(rows: Rows, basis: FaceBasis) -> ArkitMap:
    """The map without targets; what cannot be told is 0."""
    unit = np.r_[np.ones(N_EXPRESSION), GAZE_UNIT, GAZE_UNIT]
    x = rows.features / unit
    weight, bias = np.zeros((N_FEATURES, N_BLENDSHAPES)), np.full(N_BLENDSHAPES, USUAL_BIAS)
    flip = mirror_matrix(basis)
    moves = np.quantile(rows.rises, 0.99, axis=0) >= LEAST_RISE
    for k in np.flatnonzero(moves):
        other = MIRROR[k]
        if other < k:  # the mirror image is known already
            weight[:, k], bias[k] = flip @ weight[:, other], bias[other]
            continue
        theta = fit_score(x, rows.rises[:, k], rows.weight)
        weight[:, k], bias[k] = theta[:-1] / unit, theta[-1]
        if other == k:  # rows come with their mirror images; this takes out the last rounding
            weight[:, k] = (weight[:, k] + flip @ weight[:, k]) / 2
    none = np.zeros((N_BLENDSHAPES, topo.N_POINTS, 3), np.float32)
    made = ArkitMap(weight, bias, np.ones(N_BLENDSHAPES), none)
    weight[:, within_clips(rows, made.scores(rows.features)) < LEAST_CORRELATION] = 0
    return ArkitMap(weight, bias, _gain(made, basis), none)


def _gain(made: ArkitMap, basis: FaceBasis) -> Array:
    """(52,) factors: where the lids just meet, a blink is 1, whatever the teacher gives."""
    gain = np.ones(N_BLENDSHAPES)
    shut = np.zeros((1, N_FEATURES))
    shut[0, :2] = basis.blink_shut
    for k in (BLENDSHAPES.index("eyeBlinkLeft"), BLENDSHAPES.index("eyeBlinkRight")):
        gain[k] = 1 / max(float(made.scores(shut)[0, k]), 0.3)
    return gain


def moves_of_features(basis: FaceBasis) -> Array:
    """(N_FEATURES, 478, 3) displacement of the mean face; small angles for the gaze."""
    moves = np.zeros((N_FEATURES, topo.N_POINTS, 3))
    moves[:N_EXPRESSION] = basis.expression
    for ring, corners in ((topo.LEFT_IRIS, (33, 133)), (topo.RIGHT_IRIS, (263, 362))):
        moves[:N_EXPRESSION, list(ring)] = moves[:N_EXPRESSION, list(corners)].mean(
            axis=1, keepdims=True
        )
        moves[N_EXPRESSION, list(ring), 0] = EYEBALL_RADIUS
        moves[N_EXPRESSION + 1, list(ring), 1] = EYEBALL_RADIUS
    return moves


def _areas(mean: Array) -> dict[str, Array]:
    """Where the eyes, the brows and the rest of the person's left half count, (478,) in 0..1.

    They and their mirror images add up to 1 everywhere.
    """

    def above(x: Array, edge: float, width: float) -> Array:
        return smoothstep((x - edge) / width + 0.5)

    eye, nose, brow = mean[33, 1], mean[topo.NOSE_TIP, 1], mean[list(topo.LEFT_BROW_LOWER), 1].max()
    left = above(mean[:, 0], 0.0, 0.3)
    upper = 1 - above(mean[:, 1], eye + 0.3 * (nose - eye), 0.12)
    brows = 1 - above(mean[:, 1], brow, 0.06)
    brows[list(topo.LEFT_EYE + topo.RIGHT_EYE + tuple(range(topo.N_FACE, topo.N_POINTS)))] = 0
    return {
        "eye": left * upper * (1 - brows),
        "brow": left * upper * brows,
        "rest": left * (1 - upper),
    }


def fit_targets(rows: Rows, made: ArkitMap, basis: FaceBasis) -> Array:
    """(52, 478, 3) float32 displacement of the mean face by each blendshape at 1."""
    said = made.scores(rows.features).astype(np.float64)
    known = np.flatnonzero(np.abs(made.weight).any(axis=0))
    moves = moves_of_features(basis)
    half = np.zeros((N_BLENDSHAPES, topo.N_POINTS, 3))
    for area, share in _areas(basis.mean).items():
        # A blendshape of the other side has no part here; a jaw that goes left or right has.
        used = [
            k
            for k in known
            if _area(BLENDSHAPES[k]) == area
            and (not BLENDSHAPES[k].endswith("Right") or BLENDSHAPES[k][:-5] in ("jaw", "mouth"))
        ]
        if not used:
            continue
        s = said[:, used]
        weighted = s * rows.weight[:, None]
        ridge = TARGET_PENALTY * rows.weight.sum() * np.eye(len(used))
        found = np.linalg.solve(weighted.T @ s + ridge, weighted.T @ rows.features)
        half[used] += share[:, None] * np.tensordot(found, moves, axes=1)
    return (half + half[list(MIRROR)][:, topo.MIRROR] * [-1, 1, 1]).astype(np.float32)


def _area(name: str) -> str:
    return next((area for area in ("eye", "brow") if name.startswith(area)), "rest")


def train_arkit(
    clips: Path, tracks: Path, bundle: Path, output: Path, cleared: bool = False
) -> dict[str, float]:
    """Fits the table, writes it and measures it on people of the test split alone.

    Args:
        clips: Folder of clips with ``index.tsv``.
        tracks: Their labels by ``teacher.py``.
        bundle: MediaPipe's ``face_landmarker.task``.
        output: File to write, as ``sfumato/data/arkit.npz``.
        cleared: Only clips with a cleared licence.

    Returns:
        Numbers of people and frames; where the test split has people of its own, for each
        blendshape that the teacher knows the correlation within their clips, both sides together,
        and how much of the mesh's motion the targets give back.

    Raises:
        InputError: No usable data or no such bundle.
    """
    teacher, basis = load_teacher(bundle), FaceBasis.load()
    listed = read_index(clips, cleared)
    rows = collect([c for c in listed if c.split == "train"], tracks, basis, teacher)
    made = fit_scores(rows, basis)
    made = ArkitMap(made.weight, made.bias, made.gain, fit_targets(rows, made, basis))
    made.save(output)
    # Some sources are split by clip: their people are no test of new people.
    known = {c.person for c in listed if c.split == "train"}
    unseen = [c for c in listed if c.split == "test" and c.person not in known]
    taught = {"people": rows.people, "frames": len(rows.weight) / 2}
    if not unseen:
        return taught
    held = collect(unseen, tracks, basis, teacher)
    return {
        **taught,
        "held-out people": held.people,
        "held-out frames": len(held.weight) / 2,
        **measure(held, made, basis),
    }


def measure(held: Rows, made: ArkitMap, basis: FaceBasis) -> dict[str, float]:
    """Correlations by name, the two sides of a pair once, and what the targets give back."""
    said = made.scores(held.features)
    found = within_clips(held, said)
    figures = {
        BLENDSHAPES[k].removesuffix("Left") if MIRROR[k] != k else BLENDSHAPES[k]: float(found[k])
        for k in _KNOWN
        if MIRROR[k] >= k
    }
    moves = moves_of_features(basis)
    true = np.tensordot(held.features[::7], moves, axes=1)
    played = np.tensordot(said[::7].astype(np.float64), made.targets, axes=1)
    for name, pairs in (("lips", (topo.LIP_MIDDLES,)), ("lids", topo.LID_MIDDLES)):
        a, b = (
            np.concatenate([v[:, low, 1] - v[:, up, 1] for up, low in pairs])
            for v in (true, played)
        )
        figures[f"mesh, opening of the {name}"] = float(np.corrcoef(a, b)[0, 1])
    error = ((played - true)[:, : topo.N_FACE] ** 2).sum()
    figures["mesh, motion given back"] = float(1 - error / (true[:, : topo.N_FACE] ** 2).sum())
    return figures
