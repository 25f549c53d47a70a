"""The judge of points: it sees as the product's tracker, in the right place, what moved."""

from __future__ import annotations

import astronaut_face
import numpy as np
import pytest
from astronaut_face import moved

torch = pytest.importorskip("torch", reason="needs the training extra: make test-all")
pytest.importorskip("onnx", reason="needs the training extra: make test-all")

from sfumato.details import DETAILS, Detail  # noqa: E402
from sfumato.engine import Network  # noqa: E402
from sfumato.geometry import patches  # noqa: E402
from sfumato.geometry.patches import EYE_DISTANCE, EYES, MOUTH, Patch  # noqa: E402
from sfumato.models.face import DetailNet  # noqa: E402
from sfumato.render.renderer import Renderer  # noqa: E402
from sfumato.train.decoder_judge import PointJudge  # noqa: E402
from sfumato.train.shipped import filled  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("detail", DETAILS, ids=lambda d: d.name)
def test_a_shipped_network_in_torch_sees_as_in_use(detail: Detail) -> None:
    side = detail.pixels
    picture = np.random.default_rng(0).uniform(-1, 1, (2, 3, side, side)).astype(np.float32)
    ours = filled(DetailNet(side, len(detail.points)), f"face_{detail.name}.onnx")
    theirs = Network(f"face_{detail.name}")(picture)[0]
    np.testing.assert_allclose(ours(torch.from_numpy(picture)).numpy(), theirs, atol=2e-3)
    assert not any(p.requires_grad for p in ours.parameters())


def _patch(patch: Patch, **face: float) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """First patch of the astronaut: picture, masks, and the landmarks that were asked, in it."""
    portrait = astronaut_face.portrait(size=512)
    out = Renderer(portrait, astronaut_face.basis()).render(moved(portrait, **face))
    matrix = patch.matrices(out.landmarks)[0]
    picture = patches.cut(patch, out.image, matrix)
    masks = patches.masks(patch, out.landmarks, matrix)
    asked = out.landmarks[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    tensors = (torch.from_numpy(a).permute(2, 0, 1)[None].float() for a in (picture, masks))
    seen, inside = tensors
    return seen / 127.5 - 1, inside / 255, asked


@pytest.mark.parametrize("patch", [MOUTH, EYES], ids=lambda p: p.name)
def test_points_are_seen_where_they_are_drawn(patch: Patch) -> None:
    torch.manual_seed(0)
    judge = PointJudge(patch)
    picture, masks, asked = _patch(patch, lips=3.0)
    looks = judge._looks(masks.repeat(8, 1, 1, 1))
    with torch.no_grad():
        points = judge._points(picture.repeat(8, 1, 1, 1), looks)
    in_patch = points @ looks[:, :, :2].transpose(1, 2) + looks[:, None, :, 2]
    size = np.array([patch.width, patch.height])
    pixels = ((in_patch.mean(0).numpy() + 1) * size - 1) / 2
    error = np.linalg.norm(pixels - asked[judge.detail.points], axis=1)
    assert error.mean() < 0.03 * EYE_DISTANCE


@pytest.mark.parametrize(
    ("patch", "small", "large"),
    [(MOUTH, {"lips": 1.0}, {"lips": 4.0}), (EYES, {"lids": 1.5}, {"lids": 4.0})],
    ids=["mouth", "eyes"],
)
def test_distance_grows_with_what_moved_and_not_with_light(
    patch: Patch, small: dict[str, float], large: dict[str, float]
) -> None:
    torch.manual_seed(0)
    judge = PointJudge(patch)
    rest, masks, _ = _patch(patch, lips=0.0, lids=0.0)
    others = [0.8 * rest - 0.1, *(_patch(patch, **face)[0] for face in (small, large))]
    with torch.no_grad():
        none, *rises = (float(judge.distance(p, rest, masks)) for p in (rest, *others))
    darker, near, far = (value - none for value in rises)
    assert none < 0.004  # each part of it is rounded off by a thousandth
    assert darker < 0.6 * near and near < 0.6 * far


def test_a_decoder_is_pulled_to_where_points_shall_be() -> None:
    torch.manual_seed(0)
    judge = PointJudge(MOUTH)
    wanted, masks, _ = _patch(MOUTH, lips=3.0)
    made = _patch(MOUTH, lips=1.0)[0].requires_grad_()
    optimiser = torch.optim.Adam([made], 0.01)
    first = last = 0.0
    for _ in range(20):
        loss = judge.distance(made, wanted, masks)
        first, last = first or float(loss.detach()), float(loss.detach())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert last < 0.7 * first
