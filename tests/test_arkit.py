"""Export: blendshapes mean what their names say, files are what readers expect."""

from __future__ import annotations

import base64
import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sfumato import arkit, weights
from sfumato.cli import app
from sfumato.errors import InputError, OutputError
from sfumato.geometry import topology as topo
from sfumato.geometry.rotation import matrix
from sfumato.latent import FaceBasis
from sfumato.motionfile import N_EXPRESSION, Motion

pytestmark = pytest.mark.unit

UNTOLD = ("jawForward", "cheekPuff", "cheekSquintLeft", "cheekSquintRight")
UNTOLD += ("noseSneerLeft", "noseSneerRight", "tongueOut")


def _motion(count: int = 30, seed: int = 0) -> Motion:
    rng = np.random.default_rng(seed)
    return replace(
        Motion.zeros(count),
        pose=0.1 * rng.standard_normal((count, 6)),
        expression=rng.standard_normal((count, N_EXPRESSION)),
        gaze=0.1 * rng.standard_normal((count, 2)),
    )


def _with(index: int, value: float) -> Motion:
    expression = np.zeros((1, N_EXPRESSION), np.float32)
    expression[0, index] = value
    still = Motion.zeros(1)
    return replace(still, expression=expression)


def _looking(yaw: float, pitch: float) -> Motion:
    still = Motion.zeros(1)
    return replace(still, gaze=np.array([[yaw, pitch]]))


def _score(motion: Motion, name: str) -> float:
    return float(arkit.blendshapes(motion)[0, arkit.BLENDSHAPES.index(name)])


def _in_mirror(motion: Motion) -> Motion:
    axes = FaceBasis.load().expression
    image = (axes[:, topo.MIRROR] * [-1, 1, 1]).reshape(N_EXPRESSION, -1)
    same = np.linalg.lstsq(axes.reshape(N_EXPRESSION, -1).T, image.T, rcond=None)[0]
    return replace(
        motion,
        pose=motion.pose * [-1, 1, -1, -1, 1, 1],
        expression=motion.expression @ same.T,
        gaze=motion.gaze * [-1, 1],
    )


def test_names_are_apples() -> None:
    assert len(set(arkit.BLENDSHAPES)) == arkit.N_BLENDSHAPES == 52
    assert arkit.BLENDSHAPES[0] == "eyeBlinkLeft" and arkit.BLENDSHAPES[-1] == "tongueOut"
    assert arkit.BLENDSHAPES[7] == "eyeBlinkRight" and arkit.BLENDSHAPES[17] == "jawOpen"
    assert sorted(arkit.MIRROR) == list(range(52))


def test_the_neutral_face_is_nothing() -> None:
    assert not arkit.blendshapes(Motion.zeros(3)).any()


def test_scores_are_shares() -> None:
    scores = arkit.blendshapes(_motion(200))
    assert scores.shape == (200, 52) and scores.dtype == np.float32
    assert scores.min() >= 0 and scores.max() <= 1
    never = {n for k, n in enumerate(arkit.BLENDSHAPES) if not scores[:, k].any()}
    assert set(UNTOLD) <= never
    assert len(never) <= len(UNTOLD) + 4


def test_a_blink_of_the_image_left_eye_is_the_persons_right() -> None:
    left, right = FaceBasis.load().blink_shut
    assert (
        _score(_with(0, left), "eyeBlinkRight") > 0.85 > 3 * _score(_with(0, left), "eyeBlinkLeft")
    )
    assert _score(_with(1, right), "eyeBlinkLeft") > 0.85


def test_mouth_and_brows_do_what_they_are_called() -> None:
    assert _score(_with(2, 5.0), "jawOpen") > max(0.2, 1.5 * _score(_with(2, 3.0), "jawOpen"))
    assert _score(_with(4, 3.0), "mouthSmileLeft") > 0.2 > 2 * _score(_with(4, 3.0), "jawOpen")
    assert _score(_with(5, 2.5), "browInnerUp") > 0.2 > 2 * _score(_with(5, 2.5), "jawOpen")


def test_gaze_goes_to_the_right_eye() -> None:
    """To the right of the image is to the person's left: out for the left eye."""
    aside = _looking(0.3, 0.0)
    assert _score(aside, "eyeLookOutLeft") > 2 * _score(aside, "eyeLookInLeft")
    assert _score(aside, "eyeLookInRight") > 2 * _score(aside, "eyeLookOutRight")
    down = _looking(0.0, 0.25)
    assert _score(down, "eyeLookDownLeft") > 2 * _score(down, "eyeLookUpLeft")


def test_mirrored_motion_gives_mirrored_scores() -> None:
    motion = _motion(50)
    scores = arkit.blendshapes(motion)
    mirrored = arkit.blendshapes(_in_mirror(motion))
    np.testing.assert_allclose(mirrored, scores[:, list(arkit.MIRROR)], atol=2e-3)


def test_targets_are_mirror_images() -> None:
    targets = arkit.ArkitMap.load().targets
    flipped = targets[list(arkit.MIRROR)][:, topo.MIRROR] * [-1, 1, 1]
    np.testing.assert_allclose(flipped, targets, atol=2 * arkit.TARGET_STEP)


def test_a_table_of_another_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = weights.table("arkit.npz")
    monkeypatch.setattr(weights.resources, "files", lambda _: tmp_path)
    load = arkit.ArkitMap.load.__wrapped__  # what is kept of an earlier call is not asked for
    with pytest.raises(FileNotFoundError, match="arkit.npz is missing: install the package again"):
        load()
    (tmp_path / "data").mkdir()
    for name, other in (("format_version", np.array(2)), ("names", stored["names"][::-1])):
        np.savez(tmp_path / "data" / "arkit.npz", **{**stored, name: other})
        with pytest.raises(InputError, match="another version: install the package again"):
            load()
    np.savez(tmp_path / "data" / "arkit.npz", **stored)
    assert np.array_equal(load().weight, arkit.ArkitMap.load().weight)


def test_live_link_csv(tmp_path: Path) -> None:
    motion = _motion(60)
    path = tmp_path / "a.csv"
    arkit.write_live_link_csv(motion, path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]
    with path.open(newline="") as handle:
        header, *rows = csv.reader(handle)
    assert len(header) == 63 and len(rows) == 60
    assert header[:3] == ["Timecode", "BlendshapeCount", "EyeBlinkLeft"]
    assert header[16:20] == ["JawForward", "JawRight", "JawLeft", "JawOpen"]
    assert header[23:25] == ["MouthRight", "MouthLeft"]
    assert header[53:57] == ["TongueOut", "HeadYaw", "HeadPitch", "HeadRoll"]
    assert header[-1] == "RightEyeRoll"
    assert [rows[0][0], rows[24][0], rows[25][0]] == [
        "00:00:00:00.000",
        "00:00:00:24.000",
        "00:00:01:00.000",
    ]
    assert {row[1] for row in rows} == {"61"}
    row = dict(zip(header, rows[7], strict=True))
    assert float(row["HeadYaw"]) == pytest.approx(motion.pose[7, 0], abs=1e-6)
    assert float(row["HeadPitch"]) == pytest.approx(-motion.pose[7, 1], abs=1e-6)
    assert float(row["LeftEyeYaw"]) == pytest.approx(motion.gaze[7, 0], abs=1e-6)
    scores = arkit.blendshapes(motion)[7]
    for name in ("jawLeft", "jawRight", "mouthLeft", "browInnerUp"):
        said = float(row[name[0].upper() + name[1:]])
        assert said == pytest.approx(scores[arkit.BLENDSHAPES.index(name)], abs=1e-6)


def _accessor(document: dict, number: int) -> np.ndarray:
    """Values of an accessor, after checking that it lies in its view and its view in the buffer."""
    accessor = document["accessors"][number]
    width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
    kind = {5126: np.dtype("<f4"), 5123: np.dtype("<u2")}[accessor["componentType"]]
    if "bufferView" not in accessor:
        return np.zeros((accessor["count"], width))
    view = document["bufferViews"][accessor["bufferView"]]
    data = base64.b64decode(document["buffers"][0]["uri"].partition("base64,")[2])
    assert len(data) == document["buffers"][0]["byteLength"]
    assert view["byteOffset"] % 4 == 0 and view["byteOffset"] + view["byteLength"] <= len(data)
    assert view["byteLength"] == accessor["count"] * width * kind.itemsize
    part = data[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
    values = np.frombuffer(part, kind).reshape(-1, width)
    if "min" in accessor:
        np.testing.assert_allclose(values.min(axis=0), accessor["min"], rtol=1e-6)
        np.testing.assert_allclose(values.max(axis=0), accessor["max"], rtol=1e-6)
    return values


def test_gltf_mesh(tmp_path: Path) -> None:
    path = tmp_path / "a.gltf"
    arkit.write_gltf(_motion(5), path)
    document = json.loads(path.read_text())
    assert document["asset"]["version"] == "2.0"
    mesh = document["meshes"][0]
    assert mesh["extras"]["targetNames"] == list(arkit.BLENDSHAPES)
    assert len(mesh["weights"]) == 52
    for primitive in mesh["primitives"]:
        points = _accessor(document, primitive["attributes"]["POSITION"])
        assert points.shape == (topo.N_POINTS, 3)
        normals = _accessor(document, primitive["attributes"]["NORMAL"])
        np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
        assert (normals[:, 2] > 0).mean() > 0.9  # the face looks along +z
        assert points[topo.CHIN, 1] < points[topo.NOSE_TIP, 1] < points[10, 1]
        assert points[topo.NOSE_TIP, 2] > points[topo.CHIN, 2] + 0.02  # metres
        corners = _accessor(document, primitive["indices"]).ravel()
        assert len(corners) % 3 == 0 and corners.max() < len(points)
        assert len(primitive["targets"]) == 52
        for target in primitive["targets"]:
            assert _accessor(document, target["POSITION"]).shape == points.shape
    jaw = mesh["primitives"][0]["targets"][arkit.BLENDSHAPES.index("jawOpen")]["POSITION"]
    assert _accessor(document, jaw)[topo.CHIN, 1] < -0.005  # metres
    aside = mesh["primitives"][1]["targets"][arkit.BLENDSHAPES.index("eyeLookOutLeft")]["POSITION"]
    assert _accessor(document, aside)[topo.RIGHT_IRIS[0], 0] > 0.001


def test_gltf_animation(tmp_path: Path) -> None:
    motion = _motion(40)
    path = tmp_path / "a.gltf"
    arkit.write_gltf(motion, path)
    document = json.loads(path.read_text())
    animation = document["animations"][0]
    found = {}
    for channel in animation["channels"]:
        sampler = animation["samplers"][channel["sampler"]]
        assert channel["target"]["node"] == 0
        times = _accessor(document, sampler["input"]).ravel()
        np.testing.assert_allclose(times, np.arange(40) / 25, atol=1e-6)
        found[channel["target"]["path"]] = _accessor(document, sampler["output"])
    assert set(found) == {"weights", "rotation", "translation"}
    np.testing.assert_array_equal(found["weights"].reshape(40, 52), arkit.blendshapes(motion))
    np.testing.assert_allclose(np.linalg.norm(found["rotation"], axis=1), 1, atol=1e-6)
    assert found["translation"].shape == (40, 3)


def test_rotations_are_the_heads() -> None:
    motion = _motion(20)
    axes = np.diag([1.0, -1.0, -1.0])
    for pose, (x, y, z, w) in zip(motion.pose, arkit.head_rotations(motion), strict=True):
        turned = np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
        )
        np.testing.assert_allclose(turned, axes @ matrix(*pose[:3]) @ axes, atol=1e-6)


def test_an_empty_motion_gives_valid_files(tmp_path: Path) -> None:
    arkit.write_live_link_csv(Motion.zeros(0), tmp_path / "a.csv")
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 1
    assert "animations" not in arkit.gltf(Motion.zeros(0))


@pytest.mark.parametrize("write", [arkit.write_gltf, arkit.write_live_link_csv])
def test_no_place_to_write(write, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="Cannot write"):
        write(Motion.zeros(2), tmp_path / "none" / "a.gltf")
    assert not list(tmp_path.iterdir())


def test_the_command(tmp_path: Path) -> None:
    source, runner = tmp_path / "a.motion", CliRunner()
    _motion(3).save(source)
    for ending in ("csv", "gltf"):
        target = tmp_path / f"b.{ending}"
        assert runner.invoke(app, ["export", str(source), "-o", str(target)]).exit_code == 0
        again = runner.invoke(app, ["export", str(source), "-o", str(target)])
        assert again.exit_code == 2 and "--force" in again.output
        forced = runner.invoke(app, ["export", str(source), "-o", str(target), "--force"])
        assert forced.exit_code == 0
    for arguments, cure in (
        ([str(source), "-o", str(tmp_path / "b.fbx")], ".csv or .gltf"),
        ([str(tmp_path / "no.motion"), "-o", str(tmp_path / "c.csv")], "No motion file"),
    ):
        result = runner.invoke(app, ["export", *arguments])
        assert result.exit_code == 2 and cure in result.output
        assert len(result.output.strip().splitlines()) == 1
