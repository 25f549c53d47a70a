"""Close looks at eyes and lips, on our own painted portrait drawn with a motion that is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sfumato.details import DETAILS, EYES, LIPS, placed, wanted
from sfumato.geometry import topology as topo
from sfumato.landmarks import Face, FaceEncoder
from sfumato.latent import FaceBasis, MotionFrame
from sfumato.media.image import load_image
from sfumato.render.portrait import prepare
from sfumato.render.renderer import Renderer
from sfumato.weights import find

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    path = tmp_path_factory.mktemp("photo") / "portrait.jpg"
    path.write_bytes(find("demo/portrait.jpg").read_bytes())
    image, encoder = load_image(path), FaceEncoder.load()
    face = encoder.analyse(image)
    basis = FaceBasis.load()
    return Renderer(prepare(image, face.landmarks, encoder.matte(image, face), basis, 256), basis)


def _seen(renderer: Renderer, frame: MotionFrame) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks that were drawn, and those that a tracker sees in the picture."""
    drawn = renderer.render(frame)
    face = FaceEncoder.load().track(drawn.image, Face(drawn.landmarks, 1.0))
    assert face is not None
    return drawn.landmarks, face.landmarks


def _iris(points: np.ndarray) -> float:
    """How far to the right both irises stand, in eye distances."""
    left = points[468, 0] - points[[33, 133], 0].mean()
    right = points[473, 0] - points[[362, 263], 0].mean()
    return float(left + right) / 2 / float(np.linalg.norm(points[33, :2] - points[263, :2]))


def test_irises_are_followed(renderer: Renderer) -> None:
    still = MotionFrame.neutral()
    turned = [
        _seen(renderer, replace(still, gaze=np.array([yaw, 0], np.float32)))
        for yaw in (-0.35, 0.0, 0.35)
    ]
    asked, seen = (
        np.array([_iris(points) for points in column]) for column in zip(*turned, strict=True)
    )
    # The landmark network alone sees a twelfth of it.
    assert np.polyfit(asked, seen, 1)[0] > 0.4
    assert (np.diff(seen) > 0.01).all()


def test_lips_are_seen_to_open_and_close(renderer: Renderer) -> None:
    openings = []
    for value in (0.0, 1.5, 3.0):
        expression = renderer.portrait.latents.expression * 0
        expression[2] = value
        asked, seen = _seen(renderer, replace(MotionFrame.neutral(), expression=expression))
        unit = np.linalg.norm(asked[33, :2] - asked[263, :2])
        openings.append([np.linalg.norm(p[13, :2] - p[14, :2]) / unit for p in (asked, seen)])
    asked, seen = np.array(openings).T
    assert np.abs(seen - asked).max() < 0.05


@pytest.mark.parametrize("detail", DETAILS, ids=lambda d: d.name)
def test_what_is_wanted_of_a_crop_is_where_it_is_placed(detail) -> None:
    face = np.asarray(FaceBasis.load().mean * 90 + (130, 120, 0), np.float32)
    for side in detail.sides:
        square = detail.square(face, side)
        ids = topo.MIRROR[detail.points] if side else detail.points
        points = wanted(detail, square, face, side)
        assert np.abs(points).max() < 1.0  # all of it lies in the crop
        np.testing.assert_allclose(placed(detail, square, points, side), face[ids, :2], atol=1e-3)


def test_lips_and_eyes_are_whole() -> None:
    assert set(topo.OUTER_LIPS + topo.INNER_LIPS) < set(LIPS.points.tolist())
    assert set(topo.LEFT_EYE + topo.LEFT_IRIS) < set(EYES.points.tolist())
    assert len(set(LIPS.points.tolist())) == len(LIPS.points) == 80
