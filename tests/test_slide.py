"""Skin slides: not where nothing moves, upright in the head, the same after a round trip."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import astronaut_face
import numpy as np
import pytest
from astronaut_face import at_rest, moved

from sfumato import weights
from sfumato.errors import InputError
from sfumato.geometry import topology
from sfumato.motionfile import N_SKIN
from sfumato.render import skin
from sfumato.render.portrait import Portrait
from sfumato.render.renderer import Renderer
from sfumato.render.slide import N_INPUTS, Slide, observed

pytestmark = pytest.mark.unit

SHIPPED = Slide.load()


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return astronaut_face.portrait()


def test_at_rest_the_photo_stays_the_photo(portrait: Portrait) -> None:
    still = SHIPPED.of(portrait.latents, at_rest(portrait))
    assert still.shape == (skin.N_VERTICES, 2) and (still == 0).all()
    basis = astronaut_face.basis()
    bare, slid = (Renderer(portrait, basis, s).render(at_rest(portrait)) for s in (None, SHIPPED))
    assert (bare.image == slid.image).all()


def test_skin_slides_with_a_turn_but_rims_stay(portrait: Portrait) -> None:
    """By pixels, not by more: a few hundredths of the distance of the eyes."""
    slide = SHIPPED.of(portrait.latents, moved(portrait, yaw=20)) / portrait.latents.pose.scale
    length = np.linalg.norm(slide, axis=1)[: topology.N_FACE]
    rims = [*topology.INNER_LIPS, *topology.LEFT_EYE, *topology.RIGHT_EYE]
    assert (length[rims] == 0).all()
    assert 0.005 < length.mean() < 0.06 and length.max() < 0.25


def test_neighbours_in_time_agree(portrait: Portrait) -> None:
    turns = np.linspace(-20, 20, 161)
    slides = np.stack([SHIPPED.of(portrait.latents, moved(portrait, yaw=t)) for t in turns])
    bend = np.abs(np.diff(slides, 2, axis=0)).max()
    assert bend < 0.25  # pixels, at a quarter of a degree a frame


def test_it_turns_and_grows_with_the_head(portrait: Portrait) -> None:
    frame = moved(portrait, yaw=15)
    person = portrait.latents
    upright = SHIPPED.upright(person, frame)
    quarter = np.pi / 2 - person.pose.roll
    rolled = replace(person, pose=replace(person.pose, roll=person.pose.roll + quarter))
    frame = replace(frame, pose=frame.pose + np.float32([0, 0, 0, 0, 0, np.log(2)]))
    found = SHIPPED.of(rolled, frame)
    expected = 2 * person.pose.scale * SHIPPED.upright(rolled, frame)
    # Rolled by a quarter, what was to the right in the head points down in the picture.
    np.testing.assert_allclose(found[:, 0], -expected[:, 1], atol=1e-3)
    np.testing.assert_allclose(found[:, 1], expected[:, 0], atol=1e-3)
    assert np.abs(upright).max() > 0.01


def test_what_is_observed(portrait: Portrait) -> None:
    row = observed(portrait.latents, moved(portrait, yaw=10, lips=3.0))
    pose = portrait.latents.pose
    assert row.shape == (N_INPUTS,) and row.dtype == np.float32
    np.testing.assert_allclose(row[:3], [pose.yaw, pose.pitch, np.deg2rad(10)], rtol=1e-5)
    assert row[10 + 40 + 2] == 3.0 and (row[10:50] == portrait.latents.expression).all()


def test_a_file_gives_back_what_was_saved(tmp_path: Path, portrait: Portrait) -> None:
    SHIPPED.save(tmp_path / "slide.npz")
    again = Slide.load(tmp_path / "slide.npz")
    frame = moved(portrait, yaw=-12, lips=2.0)
    np.testing.assert_array_equal(
        again.of(portrait.latents, frame), SHIPPED.of(portrait.latents, frame)
    )


def test_another_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="says nothing of sliding skin"):
        Slide.load(tmp_path / "none.npz")
    np.savez(tmp_path / "basis.npz", format_version=np.array(1))
    with pytest.raises(InputError, match="says nothing of sliding skin"):
        Slide.load(tmp_path / "basis.npz")
    replace(SHIPPED, centre=SHIPPED.centre[:-1]).save(tmp_path / "short.npz")
    with pytest.raises(InputError, match="another version"):
        Slide.load(tmp_path / "short.npz")
    stored = dict(np.load(BytesIO(weights.read("slide.npz"))))
    first = {name: array for name, array in stored.items() if name != "axes"}
    np.savez(tmp_path / "first.npz", **first | {"format_version": np.array(1)})
    with pytest.raises(InputError, match="another version"):
        Slide.load(tmp_path / "first.npz")


def test_told_skin_moves_along_its_axes_and_not_the_rims(portrait: Portrait) -> None:
    frame = at_rest(portrait)
    told = replace(frame, skin=np.eye(N_SKIN, dtype=np.float32)[3])
    moved_by = SHIPPED.upright(portrait.latents, told)
    np.testing.assert_allclose(moved_by, SHIPPED.axes[3], atol=1e-6)
    rims = [*topology.INNER_LIPS, *topology.LEFT_EYE, *topology.RIGHT_EYE]
    assert not SHIPPED.axes[:, rims].any() and np.abs(moved_by).max() > 0.002
