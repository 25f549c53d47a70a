"""Networks that evaluation reads or cuts: what comes out is what the original computes."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training extra: make test-all")
onnx = pytest.importorskip("onnx", reason="needs the training extra: make test-all")

from sfumato import weights  # noqa: E402
from sfumato.engine import Network  # noqa: E402
from sfumato.errors import InputError  # noqa: E402
from sfumato.eval.recognise import SIDE, Recogniser  # noqa: E402
from sfumato.models.face import LandmarkNet  # noqa: E402
from sfumato.train.export import cut_features, export_onnx  # noqa: E402

pytestmark = pytest.mark.torch


def test_features_are_the_first_layers_of_the_landmark_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = LandmarkNet().eval()
    export_onnx(network, torch.randn(1, 3, 128, 128), tmp_path / "whole.onnx")
    cut_features(tmp_path / "whole.onnx", tmp_path / "features.onnx")
    picture = torch.randn(2, 3, 96, 160)
    found = Network(tmp_path / "features.onnx")(picture.numpy())
    with torch.no_grad():
        for last, ours in zip((1, 2, 4, 6), found, strict=True):
            theirs = network.features[: last + 1](picture).numpy()
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs, atol=0.01 * np.abs(theirs).max())


def test_the_shipped_features_were_cut_from_the_shipped_landmarks(tmp_path: Path) -> None:
    (tmp_path / "whole.onnx").write_bytes(weights.read("face_landmarks.onnx"))
    cut_features(tmp_path / "whole.onnx", tmp_path / "features.onnx")
    probe = np.random.default_rng(0).uniform(-1, 1, (1, 3, 64, 64)).astype(np.float32)
    again, shipped = Network(tmp_path / "features.onnx")(probe), Network("face_features")(probe)
    assert all((a == b).all() for a, b in zip(again, shipped, strict=True))


def tiny(folder: Path, kind: str = "Conv2D") -> dict[str, np.ndarray]:
    """A TensorFlow.js graph of mobileface's layers, 4 channels wide, and its weights by name."""
    rng = np.random.default_rng(1)
    table: dict[str, Any] = {
        "scale": np.float32(1 / 255).reshape(()),
        "pads": np.array([[0, 0], [1, 2], [1, 1], [0, 0]], np.int32),
        "full": rng.normal(0, 0.3, (3, 3, 3, 4)).astype(np.float32),
        "each": rng.normal(0, 0.3, (5, 5, 4, 1)).astype(np.float32),
        "slope": np.array([0.1, 0.2, 0.3, 0.4], np.float32),
        "nought": np.zeros((), np.float32),
        "flat": np.array([-1, 4 * 27 * 26], np.int32),
        "dense": rng.normal(0, 0.01, (4 * 27 * 26, 6)).astype(np.float32),
    }

    def node(op: str, name: str, *inputs: str, stride: int = 1) -> dict[str, Any]:
        strides = {"list": {"i": ["1", str(stride), str(stride), "1"]}}
        padding = {"s": base64.b64encode(b"VALID").decode()}
        return {
            "op": op,
            "name": name,
            "input": list(inputs),
            "attr": {"strides": strides, "padding": padding},
        }

    nodes = [{"op": "Const", "name": name} for name in table] + [
        {"op": "Placeholder", "name": "data"},
        node("Mul", "scaled", "data", "scale"),
        node("Pad", "padded", "scaled", "pads"),
        node(kind, "conv", "padded", "full", stride=2),
        node("Maximum", "over", "nought", "conv"),
        node("Minimum", "under", "nought", "conv"),
        node("Mul", "bent", "slope", "under"),
        node("AddV2", "prelu", "over", "bent"),
        node("DepthwiseConv2dNative", "deep", "prelu", "each", stride=2),
        node("Reshape", "row", "deep", "flat"),
        node("MatMul", "out", "row", "dense"),
    ]
    entries = [{"name": k, "shape": list(v.shape), "dtype": str(v.dtype)} for k, v in table.items()]
    ends = {side: {"x": {"name": f"{name}:0"}} for side, name in
            (("inputs", "data"), ("outputs", "out"))}  # fmt: skip
    graph = {
        "modelTopology": {"node": nodes},
        "weightsManifest": [{"weights": entries}],
        "signature": ends,
    }
    (folder / "mobileface.json").write_text(json.dumps(graph), "utf8")
    (folder / "mobileface.bin").write_bytes(b"".join(v.tobytes() for v in table.values()))
    return table


def test_a_tensorflow_graph_computes_the_same_as_onnx(tmp_path: Path) -> None:
    table = {name: torch.from_numpy(np.array(value)) for name, value in tiny(tmp_path).items()}
    recogniser = Recogniser(tmp_path)
    crop = np.random.default_rng(2).uniform(0, 255, (2, SIDE, SIDE, 3)).astype(np.float32)
    ours = recogniser._session.run(None, {"data": crop})[0]
    picture = torch.nn.functional.pad(
        torch.from_numpy(crop).permute(0, 3, 1, 2) / 255, (1, 1, 1, 2)
    )
    full = torch.nn.functional.conv2d(picture, table["full"].permute(3, 2, 0, 1), stride=2)
    bent = torch.nn.functional.prelu(full, table["slope"])
    each = table["each"].permute(2, 3, 0, 1)
    deep = torch.nn.functional.conv2d(bent, each, stride=2, groups=4)
    theirs = deep.permute(0, 2, 3, 1).reshape(2, -1) @ table["dense"]
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-4)


def test_embedding_follows_the_face(tmp_path: Path) -> None:
    tiny(tmp_path)
    recogniser = Recogniser(tmp_path)
    rng = np.random.default_rng(3)
    picture = np.kron(rng.integers(0, 255, (30, 30, 3)), np.ones((10, 10, 1))).astype(np.uint8)
    points = np.zeros((478, 3), np.float32)
    points[:, :2] = rng.uniform(110, 170, (478, 2))
    points[33, :2], points[263, :2] = (120, 130), (160, 130)
    one = recogniser.embed(picture, points)
    two = recogniser.embed(np.roll(picture, (12, 7), axis=(0, 1)), points + (7, 12, 0))
    assert np.linalg.norm(one) == pytest.approx(1) and one @ two > 0.999
    assert one @ recogniser.embed(picture, points + (40, 0, 0)) < 0.99


def test_what_is_no_such_network_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no usable mobileface"):
        Recogniser(tmp_path)
    tiny(tmp_path, kind="Einsum")
    with pytest.raises(InputError, match="unknown layer Einsum"):
        Recogniser(tmp_path)
