"""Light: none where nothing moves, where it comes from is seen, what is told is drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import astronaut_face
import cv2
import numpy as np
import pytest
from astronaut_face import at_rest, moved

from sfumato.errors import InputError
from sfumato.geometry import topology
from sfumato.motionfile import N_LIGHT
from sfumato.render import skin
from sfumato.render.brighten import brighten
from sfumato.render.light import DARK, Light, Shading, _normals, at_vertices, blurred
from sfumato.render.portrait import Portrait
from sfumato.render.renderer import Renderer

pytestmark = pytest.mark.unit

SHIPPED = Light.load()


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return astronaut_face.portrait(512)


def lit_from(portrait: Portrait, lamp: np.ndarray) -> Portrait:
    """The same head, of one colour, under one lamp and some light from everywhere."""
    vertices = portrait.mesh.vertices
    level = 90 + 80 * np.clip(_normals(vertices) @ lamp, 0, None)
    image = np.full((*portrait.alpha.shape, 3), 100, np.uint8)
    order = np.argsort(-vertices[topology.TRIANGLES, 2].mean(axis=1))
    for corners in topology.TRIANGLES[order]:
        shade = [round(float(level[corners].mean()))] * 3
        cv2.fillConvexPoly(image, np.round(vertices[corners, :2]).astype(np.int32), shade)
    return replace(portrait, canvas=replace(portrait.canvas, image=image))


def test_at_rest_the_photo_stays_the_photo(portrait: Portrait) -> None:
    basis = astronaut_face.basis()
    dark, lit = (Renderer(portrait, basis, light=each) for each in (None, SHIPPED))
    assert (dark.render(at_rest(portrait)).image == lit.render(at_rest(portrait)).image).all()
    assert np.abs(Shading(portrait).expected(at_rest(portrait))).max() < 1e-6


@pytest.mark.parametrize("yaw", [-12, 12])
def test_light_stays_where_it_is(portrait: Portrait, yaw: float) -> None:
    """Of a head under a lamp on its left, each cheek gains what Lambert's law says."""
    lamp = np.array([-0.5, -0.1, -0.86])
    shading = Shading(lit_from(portrait, lamp))
    gain = shading.expected(moved(portrait, yaw=yaw))
    turn = cv2.Rodrigues(np.array([0, -np.deg2rad(yaw), 0]))[0]
    normals = _normals(portrait.mesh.vertices)
    before, after = (90 + 80 * np.clip(n @ lamp, 0, None) for n in (normals, normals @ turn.T))
    facing = normals[:, 2] < -0.4
    assert gain.shape == (topology.N_FACE,) and gain.dtype == np.float32
    assert np.corrcoef(gain[facing], np.log(after / before)[facing])[0, 1] > 0.9
    assert 0.6 < gain[facing].std() / np.log(after / before)[facing].std() < 1.4


def test_light_from_everywhere_does_not_change(portrait: Portrait) -> None:
    even = replace(portrait, canvas=replace(portrait.canvas, image=portrait.canvas.image * 0 + 120))
    assert np.abs(Shading(even).expected(moved(portrait, yaw=20))).max() < 0.01


@pytest.mark.parametrize("hidden", ["black", "matte"])
def test_a_face_that_shows_no_light_keeps_what_it_has(portrait: Portrait, hidden: str) -> None:
    """A silhouette, and a matte that leaves the face out."""
    dark = replace(portrait, canvas=replace(portrait.canvas, image=portrait.canvas.image * 0))
    absent = replace(portrait, person=portrait.person * 0)
    shading = Shading(dark if hidden == "black" else absent)
    assert not shading.expected(moved(portrait, yaw=20)).any()


def test_told_light_is_drawn_where_it_was_told(portrait: Portrait) -> None:
    numbers = np.zeros(N_LIGHT, np.float32)
    numbers[[2, 3]] = [2, -2]  # wide ones: what is fine the reading blurs
    frame = at_rest(portrait)
    renderer = Renderer(portrait, astronaut_face.basis(), light=SHIPPED)
    before, after = renderer.render(frame), renderer.render(replace(frame, light=numbers))
    made, there = (
        at_vertices(*blurred(each.image, each.alpha, each.landmarks), each.landmarks)
        for each in (before, after)
    )
    found = np.log((there + DARK) / (made + DARK))[: topology.N_FACE]
    asked = (numbers @ SHIPPED.axes)[: topology.N_FACE]
    seen = np.isfinite(found)
    assert np.corrcoef(found[seen], asked[seen])[0, 1] > 0.9
    assert 0.7 < found[seen].std() / asked[seen].std() < 1.1
    # The background has a light of its own.
    away = cv2.dilate(before.alpha, np.ones((15, 15))) == 0
    assert (before.image[away] == after.image[away]).all()


def test_black_stays_black(portrait: Portrait) -> None:
    night = replace(portrait, person=portrait.person * np.uint8([0, 0, 0, 1]))
    renderer = Renderer(night, astronaut_face.basis(), light=SHIPPED)
    frame = at_rest(portrait)
    lit = replace(frame, light=np.full(N_LIGHT, 2, np.float32))
    inside = portrait.alpha == 255
    for features in (topology.LEFT_EYE, topology.RIGHT_EYE, topology.OUTER_LIPS):
        ring = np.round(portrait.canvas.landmarks[list(features), :2]).astype(np.int32)
        hole = cv2.fillPoly(np.zeros_like(portrait.alpha), [ring], 1)
        inside &= cv2.dilate(hole, np.ones((25, 25))) == 0
    apart = renderer.render(lit).image.astype(int) - renderer.render(frame).image
    assert np.abs(apart[cv2.erode(inside.astype(np.uint8), np.ones((9, 9))) > 0]).max() <= 1


def test_neighbours_in_time_agree(portrait: Portrait) -> None:
    renderer = Renderer(portrait, astronaut_face.basis(), light=SHIPPED)
    turns = np.linspace(5, 10, 21)
    frames = [renderer.render(moved(portrait, yaw=t)) for t in turns]
    light = [
        np.nanmean(at_vertices(*blurred(f.image, f.alpha, f.landmarks), f.landmarks))
        for f in frames
    ]
    assert np.abs(np.diff(light, 2)).max() < 0.2  # grey levels, at a quarter of a degree a frame


def test_brighten_adds_what_it_is_given() -> None:
    image = np.full((64, 64, 4), 100, np.uint8)
    add = np.zeros((16, 16, 4), np.float32)
    add[:, 8:] = [30, -20, 0, 0]
    brighten(image, add)
    assert (image[:, 36:] == [130, 80, 100, 100]).all() and (image[:, :28] == 100).all()
    rise = image[0, 28:36, 0].astype(int)
    assert (np.diff(rise) >= 0).all() and 100 < rise[3] < 130


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    SHIPPED.save(tmp_path / "light.npz")
    again = Light.load(tmp_path / "light.npz")
    for name in ("axes", "moves", "shades"):
        np.testing.assert_array_equal(getattr(again, name), getattr(SHIPPED, name))
    assert again.axes.shape == (N_LIGHT, skin.N_VERTICES)


def test_another_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="says nothing of light"):
        Light.load(tmp_path / "none.npz")
    np.savez(tmp_path / "basis.npz", format_version=np.array(1))
    with pytest.raises(InputError, match="says nothing of light"):
        Light.load(tmp_path / "basis.npz")
    replace(SHIPPED, axes=SHIPPED.axes[:-1]).save(tmp_path / "short.npz")
    with pytest.raises(InputError, match="another version"):
        Light.load(tmp_path / "short.npz")
