"""The face encoder on our own painted portrait, moved about in ways whose result is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sfumato import weights
from sfumato.errors import NoFaceError
from sfumato.geometry.crop import Square, cut, face_square, invert, transform
from sfumato.geometry.topology import MIRROR, OUTER_CORNERS
from sfumato.landmarks import Face, FaceEncoder, _distinct

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def encoder() -> FaceEncoder:
    return FaceEncoder.load()


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    data = np.frombuffer(weights.read("demo/portrait.jpg"), np.uint8)
    return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


@pytest.fixture(scope="module")
def face(encoder: FaceEncoder, portrait: np.ndarray) -> Face:
    return encoder.analyse(portrait)


def error(one: np.ndarray, two: np.ndarray) -> float:
    """Mean distance in outer-eye distances."""
    left, right = OUTER_CORNERS
    unit = np.linalg.norm(two[left, :2] - two[right, :2])
    return float(np.linalg.norm(one[:, :2] - two[:, :2], axis=1).mean() / unit)


def test_one_face_and_only_one(encoder: FaceEncoder, portrait: np.ndarray) -> None:
    faces = encoder.faces(portrait)
    assert len(faces) == 1
    assert faces[0].confidence > 0.8


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        # A large face stays beside a surer, small one in it, wherever that is.
        ([(0.9, Square(250, 0, 60)), (0.7, Square(0, 0, 600))], [0, 1]),
        ([(0.9, Square(0, 0, 60)), (0.7, Square(0, 0, 600))], [0, 1]),
        # One face, seen twice: the better square of similar size, or the larger one, is kept.
        ([(0.7, Square(0, 0, 100)), (0.9, Square(20, 10, 120))], [1]),
        ([(0.9, Square(0, 0, 100)), (0.7, Square(20, 10, 180))], [0]),
        ([(0.9, Square(0, 0, 600)), (0.7, Square(250, 0, 60))], [0]),
        # Two that stand side by side.
        ([(0.9, Square(0, 0, 100)), (0.7, Square(80, 0, 100))], [0, 1]),
    ],
)
def test_distinct_faces(found: list[tuple[float, Square]], kept: list[int]) -> None:
    assert _distinct(found) == [found[number] for number in kept]


def test_mirror_mirrors_the_landmarks(
    encoder: FaceEncoder, portrait: np.ndarray, face: Face
) -> None:
    seen = encoder.analyse(np.ascontiguousarray(portrait[:, ::-1])).landmarks[MIRROR]
    seen[:, 0] = portrait.shape[1] - 1 - seen[:, 0]
    assert error(seen, face.landmarks) < 0.01


@pytest.mark.parametrize("degrees", [-25, 20])
@pytest.mark.parametrize("zoom", [0.3, 1.0])
def test_landmarks_turn_and_shrink_with_the_picture(
    encoder: FaceEncoder, portrait: np.ndarray, face: Face, degrees: int, zoom: float
) -> None:
    height, width = portrait.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, zoom)
    moved = cv2.warpAffine(portrait, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    expected = transform(matrix, face.landmarks)
    assert error(encoder.analyse(moved).landmarks, expected) < 0.04


def test_tracking_stays_on_a_moving_face(
    encoder: FaceEncoder, portrait: np.ndarray, face: Face
) -> None:
    seen: Face | None = face
    for step in range(1, 6):
        shift = np.array([[1.0, 0, 6 * step], [0, 1.0, -4 * step]])
        moved = cv2.warpAffine(portrait, shift, portrait.shape[1::-1])
        seen = encoder.track(moved, seen)
        assert seen is not None
        assert error(seen.landmarks, transform(shift, face.landmarks)) < 0.04


def test_two_faces_come_largest_first(encoder: FaceEncoder, portrait: np.ndarray) -> None:
    small = cv2.resize(portrait, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    both = np.zeros((portrait.shape[0], portrait.shape[1] + small.shape[1], 3), np.uint8)
    both[:, : portrait.shape[1]] = portrait
    both[: small.shape[0], portrait.shape[1] :] = small
    faces = encoder.faces(both)
    assert len(faces) == 2
    assert faces[0].height == pytest.approx(2 * faces[1].height, rel=0.1)


@pytest.mark.parametrize("kind", ["flat", "noise", "stripes"])
def test_nothing_is_found_where_nothing_is(encoder: FaceEncoder, kind: str) -> None:
    rng = np.random.default_rng(0)
    pictures = {
        "flat": np.full((300, 400, 3), 90, np.uint8),
        "noise": rng.integers(0, 256, (300, 400, 3), dtype=np.uint8),
        "stripes": np.broadcast_to(
            (np.arange(400) // 20 % 2 * 255).astype(np.uint8)[None, :, None], (300, 400, 3)
        ).copy(),
    }
    with pytest.raises(NoFaceError, match="no human-like face"):
        encoder.analyse(pictures[kind])


def test_matte_covers_the_face_and_not_the_sky(
    encoder: FaceEncoder, portrait: np.ndarray, face: Face
) -> None:
    matte = encoder.matte(portrait, face)
    assert matte.shape == portrait.shape[:2]
    assert matte.min() >= 0 and matte.max() <= 1
    x, y = face.landmarks[:, :2].mean(0).astype(int)
    assert matte[y, x] > 0.9
    assert matte[20:100, 20:100].mean() < 0.2


def test_square_matrices_invert_and_cut_is_upright(portrait: np.ndarray, face: Face) -> None:
    square = face_square(face.landmarks)
    matrix = square.matrix(128)
    there = transform(matrix, face.landmarks)
    assert np.allclose(transform(invert(matrix), there), face.landmarks, atol=1e-2)
    left, right = OUTER_CORNERS
    assert there[left, 1] == pytest.approx(there[right, 1], abs=1e-2)
    assert cut(portrait, Square(10, 10, 4000), 64).shape == (64, 64, 3)
