"""Latents: what goes in comes out, lips and lids meet, motion files survive."""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sfumato.contact import EYEBALL_RADIUS
from sfumato.errors import InputError, NoFaceError, OutputError
from sfumato.facefit import blur_in_time, steady
from sfumato.geometry import topology as topo
from sfumato.geometry.pose import compose
from sfumato.geometry.rotation import angles, matrix
from sfumato.geometry.similarity import similarity
from sfumato.geometry.topology import LEFT_EYE_UPPER
from sfumato.latent import (
    EXPRESSION_NAMES,
    N_EXPRESSION,
    N_IDENTITY,
    FaceBasis,
    Latents,
    Motion,
    MotionFrame,
    Pose,
)
from sfumato.motionfile import N_INTERIOR, N_LIGHT, N_SKIN
from sfumato.train.basis import train_basis

pytestmark = pytest.mark.unit

MOUTH_OPEN = EXPRESSION_NAMES.index("mouth_open")


@pytest.fixture(scope="module")
def basis() -> FaceBasis:
    return FaceBasis.load()


def person(rng: np.random.Generator, expression: float = 0.6, noise: float = 0.0) -> Latents:
    return Latents(
        identity=(0.7 * rng.standard_normal(N_IDENTITY)).astype(np.float32),
        expression=(expression * rng.standard_normal(N_EXPRESSION)).astype(np.float32),
        gaze=rng.uniform(-0.2, 0.2, 2).astype(np.float32),
        pose=Pose(*(rng.uniform(-0.2, 0.2, 3)), 250.0, 240.0, 180.0),
        residual=(noise * rng.standard_normal((478, 3))).astype(np.float32),
    )


def frame(**parts: float) -> MotionFrame:
    neutral = MotionFrame.neutral()
    expression = neutral.expression.copy()
    for name, value in parts.items():
        expression[EXPRESSION_NAMES.index(name)] = value
    return replace(neutral, expression=expression)


def gaps(points: np.ndarray, upper: tuple[int, ...], lower: tuple[int, ...]) -> np.ndarray:
    return np.linalg.norm(points[list(lower)] - points[list(upper)], axis=1)


def lip_gaps(points: np.ndarray) -> np.ndarray:
    return gaps(points, topo.INNER_LIPS_UPPER, topo.INNER_LIPS_LOWER)


def lid_gaps(points: np.ndarray) -> np.ndarray:
    left = gaps(points, topo.LEFT_EYE_UPPER, topo.LEFT_EYE_LOWER)
    return np.concatenate([left, gaps(points, topo.RIGHT_EYE_UPPER, topo.RIGHT_EYE_LOWER)])


@pytest.mark.parametrize("seed", range(4))
def test_angles_invert_matrix_and_similarity_finds_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    turn = rng.uniform(-0.8, 0.8, 3)
    np.testing.assert_allclose(angles(matrix(*turn)), turn, atol=1e-12)
    model = rng.standard_normal((20, 3))
    points = 3.0 * model @ matrix(*turn).T + [1.0, 2.0, 3.0]
    found = similarity(model, points[None], np.ones(20))
    np.testing.assert_allclose(found.rotation[0], matrix(*turn), atol=1e-9)
    np.testing.assert_allclose(found.undo(points[None])[0], model, atol=1e-9)
    np.testing.assert_allclose(found.apply(model)[0], points, atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_fit_explains_any_landmarks_exactly(basis: FaceBasis, seed: int) -> None:
    points = basis.landmarks(person(np.random.default_rng(seed), noise=0.01))
    error = basis.landmarks(basis.fit(points)) - points
    np.testing.assert_allclose(error[:, :2], 0, atol=0.02)
    np.testing.assert_allclose(error[:, 2], error[0, 2], atol=0.02)  # depth has no origin


@pytest.mark.parametrize("seed", range(4))
def test_drive_with_own_latents_gives_own_landmarks(basis: FaceBasis, seed: int) -> None:
    rng = np.random.default_rng(seed)
    own = replace(person(rng, expression=0.4), expression=_easy_expression(rng))
    fitted = basis.fit(basis.landmarks(own))
    still = MotionFrame(np.zeros(6, np.float32), fitted.expression, np.zeros(2, np.float32), 0.0)
    error = np.linalg.norm((basis.drive(fitted, still) - basis.landmarks(own))[:, :2], axis=1)
    assert error.max() < 0.04 * own.pose.scale
    assert error.mean() < 0.003 * own.pose.scale


def _easy_expression(rng: np.random.Generator) -> np.ndarray:
    expression = 0.3 * rng.standard_normal(N_EXPRESSION)
    expression[MOUTH_OPEN] = 1.5
    return expression.astype(np.float32)


def test_synthetic_latents_come_back(basis: FaceBasis) -> None:
    rng = np.random.default_rng(3)
    for _ in range(4):
        true = person(rng)
        found = basis.fit(basis.landmarks(true))
        assert abs(found.pose.yaw - true.pose.yaw) < 0.03
        assert abs(found.pose.pitch - true.pose.pitch) < 0.05
        assert abs(found.pose.scale / true.pose.scale - 1) < 0.03
        assert abs(found.expression[MOUTH_OPEN] - true.expression[MOUTH_OPEN]) < 0.5
        assert np.abs(found.expression[:2] - true.expression[:2]).max() < 1.5
        assert np.corrcoef(found.expression, true.expression)[0, 1] > 0.2
        assert np.corrcoef(found.identity, true.identity)[0, 1] > 0.5
        np.testing.assert_allclose(found.gaze, true.gaze, atol=0.06)


@pytest.mark.parametrize("opening", [0.0, 2.0, 5.0])
def test_zero_expression_closes_the_lips_of_any_photo(basis: FaceBasis, opening: float) -> None:
    own = person(np.random.default_rng(5), noise=0.004)
    expression = own.expression.copy()
    expression[MOUTH_OPEN] = opening
    photo = basis.landmarks(replace(own, expression=expression))
    driven = basis.drive(basis.fit(photo), MotionFrame.neutral())
    assert lip_gaps(driven).max() < 0.002 * own.pose.scale


def test_open_mouth_opens_and_closes_in_step(basis: FaceBasis) -> None:
    fitted = basis.fit(basis.landmarks(person(np.random.default_rng(6))))
    widths = [lip_gaps(basis.drive(fitted, frame(mouth_open=v))).max() for v in (0, 1, 2, 4)]
    assert widths == sorted(widths) and widths[-1] > 0.1 * fitted.pose.scale


@pytest.mark.parametrize("seed", range(4))
def test_blink_closes_both_lids_fully_and_only_them(basis: FaceBasis, seed: int) -> None:
    fitted = basis.fit(basis.landmarks(person(np.random.default_rng(seed), noise=0.004)))
    shut = basis.blink_shut
    closed = basis.drive(fitted, frame(blink_left=shut[0], blink_right=shut[1]))
    open_ = basis.drive(fitted, MotionFrame.neutral())
    assert lid_gaps(closed).max() < 0.002 * fitted.pose.scale
    assert lid_gaps(open_).max() > 0.04 * fitted.pose.scale
    mouth = list(topo.OUTER_LIPS)
    assert np.abs(closed[mouth] - open_[mouth]).max() < 0.01 * fitted.pose.scale


def test_wink_leaves_the_other_eye(basis: FaceBasis) -> None:
    fitted = basis.fit(basis.landmarks(person(np.random.default_rng(1))))
    wink = basis.drive(fitted, frame(blink_left=basis.blink_shut[0]))
    still = basis.drive(fitted, MotionFrame.neutral())
    other = list(topo.RIGHT_EYE)
    assert np.abs(wink[other] - still[other]).max() < 0.01 * fitted.pose.scale


def test_half_closed_eyes_of_a_photo_open(basis: FaceBasis) -> None:
    own = person(np.random.default_rng(2), expression=0.0)
    sleepy = own.expression.copy()
    sleepy[:2] = 0.6 * basis.blink_shut
    fitted = basis.fit(basis.landmarks(replace(own, expression=sleepy)))
    opened = lid_gaps(basis.drive(fitted, MotionFrame.neutral())).max()
    usual = lid_gaps(basis.landmarks(own)).max()
    assert 0.6 * usual < opened < 1.4 * usual


def test_gaze_moves_the_irises_the_way_it_says(basis: FaceBasis) -> None:
    upright = Pose(0, 0, 0, 100, 100, 200)
    someone = person(np.random.default_rng(2), expression=0)
    fitted = replace(someone, pose=upright, gaze=np.zeros(2, np.float32))
    ahead = basis.drive(fitted, MotionFrame.neutral())
    look = replace(MotionFrame.neutral(), gaze=np.array([0.3, 0.1], np.float32))
    moved = (basis.drive(fitted, look) - ahead)[[468, 473], :2] / 200
    expected = EYEBALL_RADIUS * np.array([np.sin(0.3) * np.cos(0.1), np.sin(0.1)])
    np.testing.assert_allclose(moved, np.stack([expected, expected]), atol=1e-3)


def test_pose_of_a_frame_adds_to_the_photo() -> None:
    rest = Pose(0.1, 0.2, 0.0, 10.0, 20.0, 50.0)
    moved = compose(rest, np.array([0.1, -0.2, 0.3, 1.0, -1.0, np.log(2)]))
    expected = (0.2, 0.0, 0.3, 60.0, -30.0, 100.0)
    values = (moved.yaw, moved.pitch, moved.roll, moved.x, moved.y, moved.scale)
    np.testing.assert_allclose(values, expected, atol=1e-9)


def clip(basis: FaceBasis) -> tuple[Latents, np.ndarray, np.ndarray]:
    """A synthetic person whose mouth opens and closes, and who blinks at frame 30."""
    own = person(np.random.default_rng(8), expression=0.0)
    when = np.arange(60)
    moves = np.zeros((60, N_EXPRESSION), np.float32)
    moves[:, MOUTH_OPEN] = 1.5 * (1 - np.cos(when / 4))
    moves[29:32, :2] = basis.blink_shut
    yaw = 0.1 * np.sin(when / 10)
    frames = [
        basis.landmarks(replace(own, expression=z, pose=replace(own.pose, yaw=float(y))))
        for z, y in zip(moves, yaw, strict=True)
    ]
    return own, moves, np.stack(frames)


def test_fit_clip_finds_motion_and_a_neutral_person(basis: FaceBasis) -> None:
    own, moves, frames = clip(basis)
    frames[10] = np.nan
    found, motion = basis.fit_clip(frames)
    assert len(motion) == 60
    track = motion.expression[:, MOUTH_OPEN]
    assert np.corrcoef(track, moves[:, MOUTH_OPEN])[0, 1] > 0.98
    assert abs(track.min()) < 0.5
    assert motion.expression[30, :2].min() > 0.6 * basis.blink_shut.min()
    assert abs(float(np.median(motion.pose[:, 0]))) < 1e-6
    assert lip_gaps(basis.landmarks(found)).max() < 0.02 * own.pose.scale
    assert not found.expression.any()


def test_fit_frame_follows_the_clip(basis: FaceBasis) -> None:
    _, _, frames = clip(basis)
    found, motion = basis.fit_clip(frames, smooth=False)
    for i in (5, 20, 30):
        one = basis.fit_frame(found, frames[i])
        np.testing.assert_allclose(one.pose, motion.pose[i], atol=0.02)
        np.testing.assert_allclose(one.expression[:3], motion.expression[i, :3], atol=0.3)
        np.testing.assert_allclose(one.gaze, motion.gaze[i], atol=0.02)


def test_fit_clip_without_a_face(basis: FaceBasis) -> None:
    with pytest.raises(NoFaceError):
        basis.fit_clip(np.full((5, 478, 3), np.nan))
    assert len(basis.fit_clip(clip(basis)[2][:1])[1]) == 1


@pytest.mark.parametrize("bad", [np.full((478, 3), np.nan), np.zeros((478, 3)), np.ones((68, 3))])
def test_fit_refuses_what_is_no_face(basis: FaceBasis, bad: np.ndarray) -> None:
    with pytest.raises(NoFaceError):
        basis.fit(bad)


def test_blur_keeps_parabolas_and_short_tracks() -> None:
    when = np.arange(20.0)[:, None]
    curve = when**2 - 3 * when
    np.testing.assert_allclose(blur_in_time(curve)[2:-2], curve[2:-2], atol=1e-9)
    np.testing.assert_array_equal(blur_in_time(curve[:3]), curve[:3])


def test_steady_takes_jitter_and_leaves_motion(basis: FaceBasis) -> None:
    face = basis.mean * 200 + 300
    still = np.repeat(face[None], 40, axis=0)
    jitter = np.random.default_rng(0).normal(0, 0.3, still.shape)
    left = steady(still + jitter) - still
    assert left.std() < 0.75 * jitter.std()
    jump = still.copy()
    jump[20:, :, 0] += 25.0  # a turn within a frame
    assert np.abs(steady(jump) - jump).max() < 0.1
    assert np.abs(blur_in_time(jump) - jump).max() > 2.0
    blink = still.copy()
    blink[20, list(LEFT_EYE_UPPER), 1] += 8.0
    assert np.abs(steady(blink) - blink)[20].max() < 0.5
    assert np.abs(blur_in_time(blink) - blink)[20].max() > 3.0


def some_motion(count: int = 10) -> Motion:
    rng = np.random.default_rng(0)
    shapes = ((count, 6), (count, N_EXPRESSION), (count, 2), (count,))
    shapes += ((count, N_INTERIOR), (count, N_SKIN), (count, N_LIGHT))
    return Motion(*(rng.random(s).astype(np.float32) for s in shapes))


def same(a: Motion, b: Motion) -> bool:
    names = ("pose", "expression", "gaze", "breath", "interior", "skin", "light")
    return all(np.array_equal(getattr(a, n), getattr(b, n)) for n in names)


def test_motion_slices_concatenate(tmp_path: Path) -> None:
    motion = some_motion()
    assert same(Motion.concat([motion[:3], motion[3:7], motion[7:]]), motion)
    assert len(Motion.concat([])) == 0
    assert np.array_equal(motion[4].expression, motion.expression[4])
    assert np.array_equal(motion[-1].pose, motion.pose[9])
    with pytest.raises(IndexError):
        motion[10]
    with pytest.raises(ValueError, match="gaze"):
        replace(motion, gaze=motion.gaze[:3])


def test_motion_file_round_trip(tmp_path: Path) -> None:
    motion = some_motion()
    path = tmp_path / "talk.motion"
    motion.save(path)
    assert same(Motion.load(path), motion)
    assert [p.name for p in tmp_path.iterdir()] == ["talk.motion"]
    Motion.zeros(0).save(path)
    assert len(Motion.load(path)) == 0
    for folder in ("no", "talk.motion"):  # none, and a file that stands in its place
        with pytest.raises(OutputError, match="Cannot write"):
            motion.save(tmp_path / folder / "talk.motion")


def test_a_failed_save_keeps_the_older_motion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "talk.motion"
    some_motion().save(path)
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="free some space"):
        Motion.zeros(3).save(path)
    assert same(Motion.load(path), some_motion())
    assert [p.name for p in tmp_path.iterdir()] == ["talk.motion"]


@pytest.mark.parametrize(
    ("version", "later"),
    [(1, ("interior", "skin", "light")), (2, ("skin", "light")), (3, ("light",))],
)
def test_older_files_show_what_is_usual(
    tmp_path: Path, version: int, later: tuple[str, ...]
) -> None:
    new, old = tmp_path / "new.motion", tmp_path / "old.motion"
    some_motion().save(new)
    with np.load(new) as stored:
        arrays = {name: stored[name] for name in stored.files if name not in later}
    header = str(arrays["header"]).replace('format_version": 4', f'format_version": {version}')
    assert f'_version": {version}' in header
    with old.open("wb") as handle:
        np.savez(handle, **{**arrays, "header": np.array(header)})
    usual = {name: 0 * getattr(some_motion(), name) for name in later}
    assert same(Motion.load(old), replace(some_motion(), **usual))


def test_a_file_that_tells_less_of_the_skin_is_grown(tmp_path: Path) -> None:
    some_motion().save(tmp_path / "new.motion")
    with np.load(tmp_path / "new.motion") as stored:
        arrays = {name: stored[name] for name in stored.files if name != "light"}
    header = str(arrays["header"]).replace('format_version": 4', 'format_version": 3')
    arrays |= {"header": np.array(header), "skin": arrays["skin"][:, :64]}
    with (tmp_path / "old.motion").open("wb") as handle:
        np.savez(handle, **arrays)
    skin = Motion.load(tmp_path / "old.motion").skin
    np.testing.assert_array_equal(skin[:, :64], some_motion().skin[:, :64])
    assert skin.shape[1] == N_SKIN and not skin[:, 64:].any()


def test_bad_motion_files_are_refused(tmp_path: Path) -> None:
    good = tmp_path / "good.motion"
    some_motion().save(good)
    data = good.read_bytes()
    with np.load(good) as stored:
        arrays = dict(stored)
    header = str(arrays["header"])

    def stored_as(name: str, **changes: np.ndarray) -> Path:
        path = tmp_path / name
        with path.open("wb") as handle:
            np.savez(handle, **{**arrays, **changes})
        return path

    bad = [
        tmp_path / "missing.motion",
        tmp_path,
        stored_as(
            "newer", header=np.array(header.replace('format_version": 4', 'format_version": 9'))
        ),
        stored_as("slow", header=np.array(header.replace('"fps": 25', '"fps": 30'))),
        stored_as("noheader", header=np.array("{}")),
        stored_as("endless", header=np.array('{"format_version": Infinity, "fps": 25}')),
        stored_as("deep", header=np.array("[" * 100_000)),
        stored_as("single", pose=np.zeros(())),
        stored_as("short", gaze=arrays["gaze"][:4]),
        stored_as("nan", pose=np.full_like(arrays["pose"], np.nan)),
        stored_as("text", pose=np.array(["a"] * 10)),
    ]
    np.save(tmp_path / "array.npy", arrays["pose"])
    bad.append(tmp_path / "array.npy")
    for name, content in (("empty", b""), ("text.txt", b"hello"), ("cut", data[: len(data) // 2])):
        (tmp_path / name).write_bytes(content)
        bad.append(tmp_path / name)
    for path in bad:
        with pytest.raises(InputError) as error:
            Motion.load(path)
        assert "\n" not in str(error.value)


def test_damage_of_any_kind_is_a_bad_motion_file(tmp_path: Path) -> None:
    path = tmp_path / "talk.motion"
    some_motion().save(path)
    good = path.read_bytes()
    for place in range(0, len(good), 17):
        damaged = bytearray(good)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        with contextlib.suppress(InputError):  # some bytes do not matter
            Motion.load(path)


def test_a_basis_can_be_learned_from_any_folder(basis: FaceBasis, tmp_path: Path) -> None:
    _, _, frames = clip(basis)
    for number in range(3):
        folder = tmp_path / "tracks" / f"person{number}" / "video"
        folder.mkdir(parents=True)
        turned = frames + 0.5 * np.random.default_rng(number).standard_normal((478, 3))
        np.savez(folder / "00001.npz", landmarks=turned.astype(np.float32))
    figures = train_basis(tmp_path / "tracks", tmp_path / "basis.npz", rounds=1)
    assert figures["people"] == 3 and figures["frames"] >= 90
    learned = FaceBasis.load(tmp_path / "basis.npz")
    assert learned.identity.shape == (N_IDENTITY, 478, 3)
    assert np.abs(learned.mean[33] - learned.mean[263])[0] == pytest.approx(1, abs=0.01)
    with pytest.raises(InputError):
        train_basis(tmp_path / "nothing", tmp_path / "basis.npz")
    with pytest.raises(InputError):
        FaceBasis.load(tmp_path / "nothing.npz")
