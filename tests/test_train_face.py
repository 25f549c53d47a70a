"""Training the face encoder: samples are right, a run can be resumed, export is exact."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training extra: make test-all")
pytest.importorskip("onnx", reason="needs the training extra: make test-all")

from sfumato import weights  # noqa: E402
from sfumato.engine import Network  # noqa: E402
from sfumato.landmarks import FaceEncoder  # noqa: E402
from sfumato.train import face as training  # noqa: E402
from sfumato.train import face_data  # noqa: E402
from sfumato.train.export import export_onnx  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def example() -> face_data.Example:
    data = np.frombuffer(weights.read("demo/portrait.jpg"), np.uint8)
    small = cv2.resize(cv2.imdecode(data, cv2.IMREAD_COLOR), (256, 320))[:256]
    face = FaceEncoder.load().analyse(cv2.cvtColor(small, cv2.COLOR_BGR2RGB))
    jpeg = cv2.imencode(".jpg", small)[1].ravel()
    matte = np.full((128, 128), 255, np.uint8)
    return face_data.Example(jpeg, face.landmarks, matte, "painting", "train")


def test_landmark_samples_stay_on_the_face(example: face_data.Example) -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(40):
        crop, target, fits = face_data.landmark_sample(example.image(), example.landmarks, 128, rng)
        assert crop.shape == (128, 128, 3)
        inside += bool(fits) and np.abs(target[:468, :2]).max() < 1.3
    assert inside > 30


def test_mosaic_says_where_the_faces_are(example: face_data.Example) -> None:
    rng = np.random.default_rng(1)
    picture, faces = face_data.mosaic([(example.image(), example.landmarks)] * 3, 256, rng)
    assert picture.shape == (256, 256, 3)
    assert 1 <= len(faces) <= 3
    target = training.detector_target(faces, 32)
    assert target[0].max() == pytest.approx(1.0)


def test_rare_expressions_are_drawn_more_often() -> None:
    usual = np.tile([[0.02, 0.12]], (200, 1))
    openness = np.concatenate([usual, [[0.4, 0.12]]]) + np.random.default_rng(0).normal(
        0, 0.001, (201, 2)
    )
    factor = face_data.rarity(openness)
    assert factor.mean() == pytest.approx(1.0)
    assert factor[-1] > 3 * np.median(factor)


@pytest.mark.parametrize("name", ["landmarks", "detector", "matte"])
def test_a_run_resumes_where_it_stopped(
    example: face_data.Example, name: str, tmp_path: Path
) -> None:
    pictures = training.Pictures([example] * 4)
    task = training.TASKS[name](pictures)
    training.train(task, tmp_path, minutes=0.02)
    first = torch.load(tmp_path / f"{name}.pt", weights_only=True)
    # More than was spent, however long the first step of a busy machine took.
    training.train(task, tmp_path, minutes=first["spent"] / 60 + 0.02)
    second = torch.load(tmp_path / f"{name}.pt", weights_only=True)
    assert second["step"] > first["step"] > 0
    assert second["spent"] > first["spent"]


def test_export_computes_what_torch_computes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = training.MatteNet().eval()
    probe = torch.randn(1, 3, 256, 256)
    path = tmp_path / "net.onnx"
    # Weights are stored as half floats: the difference is theirs.
    assert export_onnx(network, probe, path) < 0.02
    assert Network(path).metadata["format_version"] == "1"
    assert path.stat().st_size < 2.2 * sum(p.numel() for p in network.parameters())
