"""Training of the slide: flow is measured where it is, mirrors agree, what was planted is found."""

from __future__ import annotations

import zlib
from pathlib import Path

import astronaut_face
import numpy as np
import pytest
from astronaut_face import moved
from media_samples import write_video

torch = pytest.importorskip("torch", reason="needs the training extra: make test-all")

from sfumato.errors import InputError  # noqa: E402
from sfumato.geometry import topology  # noqa: E402
from sfumato.landmarks import FaceEncoder  # noqa: E402
from sfumato.media.video import VideoReader  # noqa: E402
from sfumato.motionfile import N_SKIN  # noqa: E402
from sfumato.render import skin  # noqa: E402
from sfumato.render.renderer import Renderer  # noqa: E402
from sfumato.render.slide import N_INPUTS, Slide  # noqa: E402
from sfumato.train import slide as training  # noqa: E402
from sfumato.train.axes import principal  # noqa: E402

pytestmark = pytest.mark.torch


def _rows(rng: np.random.Generator, count: int) -> np.ndarray:
    rows = rng.standard_normal((count, N_INPUTS)).astype(np.float32)
    rows[:, :10] *= 0.2
    return rows


def test_two_mirrors_give_back_what_was_there() -> None:
    rng = np.random.default_rng(0)
    basis = astronaut_face.basis()
    once = training._mirrored_rows(_rows(rng, 5), basis)
    np.testing.assert_allclose(
        training._mirrored_rows(training._mirrored_rows(once, basis), basis), once, atol=0.05
    )
    flow = rng.standard_normal((3, skin.N_VERTICES, 2)).astype(np.float32)
    image = training._mirrored_flow(flow)
    np.testing.assert_array_equal(training._mirrored_flow(image), flow)
    left, right = topology.OUTER_CORNERS
    np.testing.assert_array_equal(image[:, left], flow[:, right] * [-1, 1])


def test_rings_are_mirrored_as_they_lie() -> None:
    """A mesh around a symmetric face is its own mirror image."""
    basis = astronaut_face.basis()
    face = 100 * np.asarray(basis.mean) + [128, 128, 0]
    mesh = skin.build(face.astype(np.float32), 256, 32)
    offset = (mesh.vertices[:, :2] - [128, 128]).astype(np.float32)
    error = np.abs(training._mirrored_flow(offset[None])[0] - offset)
    assert np.median(error) < 0.5 and error[topology.N_FACE :].max() < 12


def test_what_was_planted_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skin that slides in proportion to the turn, in other people as well."""
    monkeypatch.setattr(training, "_STEPS", 250)
    rng = np.random.default_rng(1)
    names = [str(n) for n in range(40)]
    held = [n for n in names if zlib.crc32(n.encode()) % training._HELD_OUT == 0]
    assert 0 < len(held) < 20
    pattern = np.float32([0.1, 0]) * np.ones((skin.N_VERTICES, 1), np.float32)
    clips = []
    for name in names:
        rows = _rows(rng, 12)
        flow = rows[:, 2, None, None] * pattern
        flow[:, 400] = np.nan
        clips.append({"observed": rows, "flow": flow, "person": np.array(name)})
    slide, explained = training.fit(clips)
    assert explained > 0.6
    assert isinstance(slide, Slide) and slide.patterns.shape[1:] == (skin.N_VERTICES, 2)
    assert slide.axes.shape == (N_SKIN, skin.N_VERTICES, 2) and slide.axes.dtype == np.float32
    with pytest.raises(InputError, match="too few people"):
        training.fit(clips[:1])


def test_axes_are_what_was_left_largest_first() -> None:
    rng = np.random.default_rng(2)
    planted = np.zeros((2, skin.N_VERTICES, 2))
    planted[0, :200, 0], planted[1, 200:400, 1] = 0.03, 0.01
    scores = rng.standard_normal((400, 2))
    rest = np.tensordot(scores, planted, axes=1)
    rest += 1e-4 * rng.standard_normal(rest.shape)
    around = np.ones(skin.N_VERTICES)
    around[topology.N_FACE :] = 0.1
    share, weight = np.full(400, 1 / 400), np.repeat(around, 2)
    axes, _ = principal(rest.reshape(400, -1), share, weight, N_SKIN)
    assert axes.shape == (N_SKIN, 2 * skin.N_VERTICES)
    axes = axes.reshape(N_SKIN, -1, 2)
    for axis, wanted in zip(axes, planted, strict=False):
        sign = np.sign((axis * wanted).sum())
        np.testing.assert_allclose(sign * axis, wanted, atol=0.004)
    assert np.abs(axes[2:]).max() < 1e-3


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The astronaut turning as the mesh says, and her landmarks."""
    folder = tmp_path_factory.mktemp("clip")
    portrait = astronaut_face.portrait()
    renderer = Renderer(portrait, astronaut_face.basis())
    pictures = [renderer.render(moved(portrait, yaw=n)).image for n in range(-5, 6)]
    write_video(folder / "a.mp4", [n / 25 for n in range(len(pictures))], pictures)
    encoder = FaceEncoder.load()
    with VideoReader(folder / "a.mp4") as reader:
        landmarks = np.stack([encoder.track(picture, None).landmarks for picture in reader])
    np.savez(folder / "a.npz", landmarks=landmarks)
    return folder / "a.mp4", folder / "a.npz"


def test_skin_that_moves_with_the_mesh_does_not_slide(clip: tuple[Path, Path]) -> None:
    rows = training.measure(*clip, photos=1, slide=None, seed=0)
    assert rows["observed"].shape[1] == N_INPUTS and len(rows["flow"]) == 11
    length = np.linalg.norm(rows["flow"][:, : topology.N_FACE].astype(np.float32), axis=2)
    assert np.nanmedian(length) < 0.02  # of the eyes' distance: what the tracker errs
    # What is known already is counted with what is still seen.
    known = training.measure(*clip, photos=1, slide=Slide.load(), seed=0)
    apart = rows["flow"].astype(np.float32) - known["flow"]
    assert np.nanmedian(np.abs(apart)) < 0.01


def test_a_start_spares_the_first_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[tuple[int, bool]] = []

    def gathered(wanted, tracks, folder, measure, number):  # type: ignore[no-untyped-def]
        rounds.append((number, measure.keywords["slide"] is not None))
        return []

    monkeypatch.setattr(training, "read_index", lambda *_: [])
    monkeypatch.setattr(training, "gather", gathered)
    monkeypatch.setattr(training, "fit", lambda _: (Slide.load(), 0.5))
    file = training.train_slide(tmp_path, tmp_path, tmp_path / "runs")
    assert rounds == [(0, False), (1, True)]
    training.train_slide(tmp_path, tmp_path, tmp_path / "runs", start=file)
    assert rounds[2:] == [(1, True)]
