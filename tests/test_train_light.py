"""Training of the light: mirrors agree, what was planted is found, a clip is measured."""

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
from sfumato.motionfile import N_LIGHT  # noqa: E402
from sfumato.render import skin  # noqa: E402
from sfumato.render.light import N_MOVES, Light  # noqa: E402
from sfumato.render.renderer import Renderer  # noqa: E402
from sfumato.train import light as training  # noqa: E402

pytestmark = pytest.mark.torch


def test_two_mirrors_give_back_what_was_there() -> None:
    mirror = training._mirror(astronaut_face.basis())
    moves = np.random.default_rng(0).standard_normal((4, N_MOVES))
    once = moves @ mirror
    np.testing.assert_allclose(once @ mirror @ mirror, once, atol=0.05)
    np.testing.assert_array_equal(once[:, :4], moves[:, :4] * [-1, 1, -1, -1])


def test_what_was_planted_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Light that follows the turn, and half of what is expected, in other people as well."""
    monkeypatch.setattr(training, "_RIDGE", 1e-3)
    rng = np.random.default_rng(1)
    names = [str(n) for n in range(40)]
    held = [n for n in names if zlib.crc32(n.encode()) % training._HELD_OUT == 0]
    assert 0 < len(held) < 20
    side = np.zeros(skin.N_VERTICES)
    side[topology.OUTER_CORNERS[0]], side[topology.OUTER_CORNERS[1]] = 0.4, -0.4
    top = np.zeros(skin.N_VERTICES)
    top[[10, 151]] = 0.2
    clips = []
    for name in names:
        moves = 0.2 * rng.standard_normal((12, N_MOVES))
        above = rng.standard_normal((12, 1))
        light = moves[:, :1] * side + 0.5 * above * top
        light[:, 400] = np.nan
        expected = (above * top)[:, : topology.N_FACE]
        clips.append(
            {"moves": moves, "expected": expected, "light": light, "person": np.array(name)}
        )
    light, explained = training.fit(clips)
    assert explained > 0.95
    assert isinstance(light, Light) and light.axes.shape == (N_LIGHT, skin.N_VERTICES)
    assert light.moves.shape == (N_MOVES, N_LIGHT)
    np.testing.assert_allclose(light.moves[0] @ light.axes, side, atol=0.02)
    np.testing.assert_allclose(
        top[: topology.N_FACE] @ light.shades @ light.axes, 0.5 * top, atol=0.02
    )
    with pytest.raises(InputError, match="too few people"):
        training.fit(clips[:1])
    with pytest.raises(InputError, match="no measurements"):
        training.fit([])


def test_a_face_that_is_lit_as_it_was_has_no_light_to_tell(tmp_path: Path) -> None:
    portrait = astronaut_face.portrait()
    renderer = Renderer(portrait, astronaut_face.basis())
    pictures = [renderer.render(moved(portrait, yaw=n)).image for n in range(-5, 6)]
    write_video(tmp_path / "a.mp4", [n / 25 for n in range(len(pictures))], pictures)
    encoder = FaceEncoder.load()
    with VideoReader(tmp_path / "a.mp4") as reader:
        landmarks = np.stack([encoder.track(picture, None).landmarks for picture in reader])
    np.savez(tmp_path / "a.npz", landmarks=landmarks)
    rows = training.measure(tmp_path / "a.mp4", tmp_path / "a.npz", photos=1, seed=0)
    assert rows["moves"].shape == (11, N_MOVES) and rows["light"].shape == (11, skin.N_VERTICES)
    assert rows["expected"].shape == (11, topology.N_FACE)
    light = rows["light"][:, : topology.N_FACE].astype(np.float32)
    assert np.isfinite(light).mean() > 0.8 and np.nanmedian(np.abs(light)) < 0.02
