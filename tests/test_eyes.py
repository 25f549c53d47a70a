"""Eyes: the picture's own when nothing moves, closed when closed, smooth in between."""

from __future__ import annotations

import numpy as np
import pytest
from feature_face import SIZE, draw_face, face_landmarks, shut_eyes

from sfumato.render.eyes import EyeLayer, paint_eyes, prepare_eyes

pytestmark = pytest.mark.unit

LIDS = [33, 246, 161, 160, 159, 158, 157, 173, 133, 7, 163, 144, 145, 153, 154, 155]
LIDS += [362, 398, 384, 385, 386, 387, 388, 466, 263, 382, 381, 380, 374, 373, 390, 249]


@pytest.fixture(scope="module")
def landmarks() -> np.ndarray:
    return face_landmarks()


@pytest.fixture(scope="module")
def picture(landmarks: np.ndarray) -> np.ndarray:
    return draw_face(landmarks)


@pytest.fixture(scope="module")
def layer(picture: np.ndarray, landmarks: np.ndarray) -> EyeLayer:
    return prepare_eyes(picture, landmarks)


def look(landmarks: np.ndarray, dx: float, dy: float = 0.0) -> np.ndarray:
    """Both irises moved by pixels."""
    moved = landmarks.copy()
    moved[468:478, :2] += (dx, dy)
    return moved


def draw(image: np.ndarray, layer: EyeLayer, target: np.ndarray) -> None:
    """Paint the eyes over the picture, as the renderer does."""
    for coat in paint_eyes(layer, target, image.shape[:2]):
        coat.lay(image)


def iris_column(image: np.ndarray, landmarks: np.ndarray) -> float:
    """Column of the dark of the image-left eye's iris."""
    x0, y0 = landmarks[LIDS[:16], :2].min(axis=0).astype(int) - 1
    x1, y1 = landmarks[LIDS[:16], :2].max(axis=0).astype(int) + 2
    dark = np.clip(140 - image[y0:y1, x0:x1].mean(axis=2), 0, None)
    return float((dark.sum(axis=0) * np.arange(x0, x1)).sum() / dark.sum())


def test_both_eyes_are_found(layer: EyeLayer) -> None:
    assert len(layer.eyes) == 2


def test_the_picture_itself_when_nothing_moves(picture, landmarks, layer) -> None:
    image = picture.copy()
    draw(image, layer, landmarks)
    assert np.abs(image.astype(int) - picture).max() <= 1


def test_layers_alone_come_close_to_the_picture(picture, landmarks, layer) -> None:
    image = picture.copy()
    draw(image, layer, look(landmarks, 1.5))
    eye = np.abs(image.astype(int) - picture).mean(axis=2)
    assert eye[eye > 0].mean() < 30


def test_the_iris_follows_the_gaze(picture, landmarks, layer) -> None:
    columns = []
    for dx in (-5.0, 0.0, 5.0):
        image = picture.copy()
        draw(image, layer, look(landmarks, dx))
        columns.append(iris_column(image, landmarks))
    assert columns[0] < columns[1] - 2.5 < columns[2] - 5.0


def test_a_closed_eye_shows_nothing_of_the_sclera(landmarks, layer) -> None:
    skin = np.full((SIZE, SIZE, 3), (200, 160, 130), np.uint8)
    draw(skin, layer, shut_eyes(landmarks))
    assert skin.astype(int).max(axis=(0, 1)).tolist() == [200, 160, 130]
    assert skin.min() == 130


@pytest.mark.parametrize("colour", [(200, 160, 130), (90, 60, 45), (120, 120, 120)])
def test_lids_that_were_shut_open_on_an_eye(landmarks, colour: tuple[int, int, int]) -> None:
    """Dark iris in the middle, white beside it, a catch-light, in the colours of the picture."""
    skin = np.full((SIZE, SIZE, 3), colour, np.uint8)
    made_up = prepare_eyes(skin, shut_eyes(landmarks))
    assert len(made_up.eyes) == 2
    draw(skin, made_up, landmarks)
    for eye in made_up.eyes:
        x, y = np.round(landmarks[eye.iris_index, :2]).astype(int)
        left, right = landmarks[[eye.upper[0], eye.upper[-1]], 0]
        side = round(0.5 * (max(left, x - 2) + left)) if x - left > right - x else None
        side = side or round(0.5 * (x + 2 + right)) + 2
        iris, white = skin[y - 2 : y + 3, x - 2 : x + 3].astype(float), skin[y, side].astype(float)
        assert iris.mean() < 0.6 * white.mean()
        assert white.mean() > 0.7 * max(np.mean(colour), 110)
    if len(set(colour)) == 1:
        assert np.ptp(skin, axis=2).max() <= 1  # a grey print has grey eyes
    shut = np.full((SIZE, SIZE, 3), colour, np.uint8)
    draw(shut, made_up, shut_eyes(landmarks))
    assert (shut == colour).all()


def test_nothing_is_painted_away_from_the_eyes(picture, landmarks, layer) -> None:
    image = picture.copy()
    draw(image, layer, look(landmarks, 4, 2))
    near = np.zeros((SIZE, SIZE), bool)
    for lids in (LIDS[:16], LIDS[16:]):
        x0, y0 = landmarks[lids, :2].min(axis=0).astype(int) - 6
        x1, y1 = landmarks[lids, :2].max(axis=0).astype(int) + 7
        near[y0:y1, x0:x1] = True
    assert np.array_equal(image[~near], picture[~near])


@pytest.mark.parametrize("closing", [0.0, 0.3, 0.6, 0.9])
def test_small_motion_changes_little(picture, landmarks, layer, closing: float) -> None:
    before, after = picture.copy(), picture.copy()
    target = look(landmarks + closing * (shut_eyes(landmarks) - landmarks), 3)
    draw(before, layer, target)
    nudged = target.copy()
    nudged[:, :2] += (0.05, -0.05)
    draw(after, layer, nudged)
    assert np.abs(after.astype(int) - before).max() <= 22


def test_grey_stays_grey(picture, landmarks) -> None:
    grey = np.repeat(picture.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    image = grey.copy()
    draw(image, prepare_eyes(grey, landmarks), look(landmarks, 4))
    assert np.ptp(image.astype(int), axis=2).max() <= 1


def test_the_same_twice(picture, landmarks, layer) -> None:
    first, second = picture.copy(), picture.copy()
    draw(first, layer, look(landmarks, 3))
    draw(second, prepare_eyes(picture, landmarks), look(landmarks, 3))
    assert np.array_equal(first, second)


def test_dark_glasses_are_left_alone(picture, landmarks) -> None:
    dark = picture.copy()
    for lids in (LIDS[:16], LIDS[16:]):
        x0, y0 = landmarks[lids, :2].min(axis=0).astype(int) - 8
        x1, y1 = landmarks[lids, :2].max(axis=0).astype(int) + 9
        dark[y0:y1, x0:x1] = 25
    image = dark.copy()
    draw(image, prepare_eyes(dark, landmarks), look(shut_eyes(landmarks), 3))
    assert np.array_equal(image, dark)


def test_a_face_over_the_border_is_no_error(picture, landmarks, layer) -> None:
    for shift in ((-200.0, 0.0), (-400.0, 0.0), (0.0, 270.0), (900.0, 900.0)):
        image = picture.copy()
        moved = landmarks.copy()
        moved[:, :2] += shift
        draw(image, layer, moved)
        draw(image, prepare_eyes(picture, moved), moved)
