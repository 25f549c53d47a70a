"""Mouth: nothing behind closed lips, teeth on skull and jaw, colours of the picture."""

from __future__ import annotations

import numpy as np
import pytest
from feature_face import (
    LOWER_LIP,
    SIZE,
    UPPER_LIP,
    close_mouth,
    draw_face,
    face_landmarks,
    open_mouth,
)

from sfumato.render import teeth
from sfumato.render.mouth import MouthLayer, paint_mouth, prepare_mouth

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def landmarks() -> np.ndarray:
    return close_mouth(face_landmarks())


@pytest.fixture(scope="module")
def picture(landmarks: np.ndarray) -> np.ndarray:
    return draw_face(landmarks)


@pytest.fixture(scope="module")
def layer(picture: np.ndarray, landmarks: np.ndarray) -> MouthLayer:
    return prepare_mouth(picture, landmarks)


def drawn(picture: np.ndarray, layer: MouthLayer, target: np.ndarray) -> np.ndarray:
    """The picture with the mouth painted over it, as the renderer does."""
    image = picture.copy()
    for coat in paint_mouth(layer, target, image.shape[:2]):
        coat.lay(image)
    return image


def interior(image: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Luminance down the middle of the opening."""
    x = int(round(float(target[13, 0]))) + 2  # beside the gap of the front teeth
    y0, y1 = int(target[13, 1]) + 1, int(target[14, 1])
    return image[y0:y1, x - 2 : x + 3].mean(axis=(1, 2))


def test_closed_lips_stay_untouched(picture, landmarks, layer) -> None:
    assert np.array_equal(drawn(picture, layer, landmarks), picture)


def test_an_open_picture_shows_itself(landmarks) -> None:
    target = open_mouth(landmarks, 20)
    photo = draw_face(target)
    assert np.array_equal(drawn(photo, prepare_mouth(photo, target), target), photo)


def test_lips_that_were_open_close_with_a_dark_line(landmarks) -> None:
    target = open_mouth(landmarks, 20)
    layer = prepare_mouth(draw_face(target), target)
    skin = np.full((SIZE, SIZE, 3), (200, 160, 130), np.uint8)
    skin = drawn(skin, layer, landmarks)
    line = skin[int(landmarks[13, 1]) - 3 : int(landmarks[13, 1]) + 4, int(landmarks[13, 0])]
    assert line.sum(axis=1).min() < 400
    assert (skin <= (200, 160, 130)).all()


def test_a_wide_mouth_is_bright_above_dark_between(picture, landmarks, layer) -> None:
    target = open_mouth(landmarks, 45)
    light = interior(drawn(picture, layer, target), target)
    assert light[: len(light) // 4].max() > 1.6 * light[len(light) // 3 : len(light) // 2].min()


def test_teeth_are_no_brighter_than_the_picture(picture, landmarks, layer) -> None:
    target = open_mouth(landmarks, 40)
    ring = np.concatenate([target[UPPER_LIP, :2], target[LOWER_LIP, :2]])
    (x0, y0), (x1, y1) = ring.min(axis=0).astype(int), ring.max(axis=0).astype(int)
    inside = drawn(picture, layer, target)[y0:y1, x0:x1]
    assert inside.max() <= np.quantile(picture, 0.999)


def test_upper_teeth_stay_while_the_jaw_drops(picture, landmarks, layer) -> None:
    first, second = open_mouth(landmarks, 25), open_mouth(landmarks, 40)
    a, b = (drawn(picture, layer, t).astype(int) for t in (first, second))
    y, x = (landmarks[13, 1::-1] + 0.5).astype(int)
    assert np.abs(a[y + 1 : y + 3, x - 8 : x + 9] - b[y + 1 : y + 3, x - 8 : x + 9]).mean() < 12


def test_nothing_is_painted_outside_the_lips(picture, landmarks, layer) -> None:
    target = open_mouth(landmarks, 30)
    ring = np.concatenate([target[UPPER_LIP, :2], target[LOWER_LIP, :2]])
    (x0, y0), (x1, y1) = ring.min(axis=0).astype(int) - 2, ring.max(axis=0).astype(int) + 3
    image = drawn(picture, layer, target)
    image[y0:y1, x0:x1] = picture[y0:y1, x0:x1]
    assert np.array_equal(image, picture)


@pytest.mark.parametrize("opening", [0.3, 2.0, 8.0, 30.0])
def test_small_motion_changes_little(picture, landmarks, layer, opening: float) -> None:
    before = drawn(picture, layer, open_mouth(landmarks, opening)).astype(int)
    after = drawn(picture, layer, open_mouth(landmarks, opening + 0.05)).astype(int)
    assert np.abs(after - before).max() <= 20


def test_grey_stays_grey(picture, landmarks) -> None:
    grey = np.repeat(picture.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    image = drawn(grey, prepare_mouth(grey, landmarks), open_mouth(landmarks, 35))
    assert np.ptp(image.astype(int), axis=2).max() <= 2


def test_the_same_twice(picture, landmarks, layer) -> None:
    target = open_mouth(landmarks, 15)
    again = prepare_mouth(picture, landmarks)
    assert np.array_equal(drawn(picture, layer, target), drawn(picture, again, target))


@pytest.mark.parametrize("yaw", [-0.5, -0.2, 0.3, 0.6])
def test_a_turning_head_changes_little_by_little(picture, layer, yaw: float) -> None:
    images = [
        drawn(picture, layer, open_mouth(close_mouth(face_landmarks(y)), 30)).astype(int)
        for y in (yaw, yaw + 0.001)
    ]
    assert np.abs(images[1] - images[0]).max() <= 25


def test_a_face_over_the_border_is_no_error(picture, landmarks, layer) -> None:
    for shift in ((-230.0, 0.0), (-400.0, 0.0), (0.0, 190.0), (900.0, 900.0)):
        moved = open_mouth(landmarks, 20)
        moved[:, :2] += shift
        drawn(picture, layer, moved)
        drawn(picture, prepare_mouth(picture, moved), moved)


def test_rows_of_teeth_are_symmetric_in_the_mean() -> None:
    for upper in (True, False):
        rows = [teeth.row(upper, 4.0, np.random.default_rng(k)) for k in range(60)]
        for row in rows:
            for part in row:
                assert part.min() >= 0 and part.max() <= 1.0
        for part in np.mean(rows, axis=0):
            assert np.abs(part[:, 1:] - part[:, :0:-1]).mean() < 0.01


def test_teeth_are_somebodys_own() -> None:
    one, same, other = (teeth.row(True, 4.0, np.random.default_rng(k))[1] for k in (1, 1, 2))
    assert np.array_equal(one, same)
    assert 0.002 < np.abs(one - other).mean() < 0.05


def test_the_same_photo_has_the_same_teeth(picture, landmarks) -> None:
    one, same = (prepare_mouth(picture, landmarks).upper for _ in range(2))
    assert np.array_equal(one, same)
