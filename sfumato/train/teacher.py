"""MediaPipe's labels for pictures and clips. Runs alone, in an environment of its own.

MediaPipe 0.10.21 needs numpy < 2 and weighs a gigabyte, so nothing else of the project imports
this file: ``make teacher`` builds its environment, and

    .venv-teacher/bin/python sfumato/train/teacher.py stills DIR OUT.npz
    .venv-teacher/bin/python sfumato/train/teacher.py clips DIR OUT_DIR [--part I/N]

label a folder of pictures or clips (with its ``index.tsv`` where there is one; otherwise every
picture or video below it). Landmarks are (478, 3) pixels: x right, y down, z away from the viewer.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import mediapipe as mp
import numpy as np

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
VIDEOS = {".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v"}
FPS = 25  # of labels, whatever the clip has
MATTE_SIDE = 128
# One in this many frames of a clip also gets a person matte and serves the picture networks.
SAMPLE_EVERY = 12


def listing(folder: Path, column: str, suffixes: set[str]) -> list[dict[str, str]]:
    """Rows of ``index.tsv``, or one row with the relative path for every matching file."""
    index = folder / "index.tsv"
    if index.exists():
        with index.open(encoding="utf8", newline="") as handle:
            return list(csv.DictReader(handle, delimiter="\t"))
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes)
    return [{column: str(p.relative_to(folder)), "split": "train"} for p in files]


def face_mesh(static: bool) -> mp.solutions.face_mesh.FaceMesh:
    return mp.solutions.face_mesh.FaceMesh(
        static_image_mode=static,
        max_num_faces=1,
        refine_landmarks=True,
        min_detection_confidence=0.3,
    )


def landmarks(mesh: mp.solutions.face_mesh.FaceMesh, rgb: np.ndarray) -> np.ndarray | None:
    """(478, 3) float32 pixels, or None where MediaPipe sees no face."""
    found = mesh.process(rgb).multi_face_landmarks
    if not found:
        return None
    height, width = rgb.shape[:2]
    points = [(p.x * width, p.y * height, p.z * width) for p in found[0].landmark]
    return np.asarray(points, np.float32)


def matte(segmenter: mp.solutions.selfie_segmentation.SelfieSegmentation, rgb: np.ndarray):
    """Person matte, uint8 (MATTE_SIDE, MATTE_SIDE): the mean over the picture and its mirror."""
    one = segmenter.process(rgb).segmentation_mask
    two = segmenter.process(np.ascontiguousarray(rgb[:, ::-1])).segmentation_mask[:, ::-1]
    mean = cv2.resize((one + two) * 127.5, (MATTE_SIDE, MATTE_SIDE), interpolation=cv2.INTER_AREA)
    return np.clip(mean, 0, 255).astype(np.uint8)


def padded(rgb: np.ndarray, share: float) -> tuple[np.ndarray, int]:
    margin = int(share * max(rgb.shape[:2]))
    out = cv2.copyMakeBorder(rgb, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    return out, margin


def still_landmarks(mesh: mp.solutions.face_mesh.FaceMesh, rgb: np.ndarray) -> np.ndarray | None:
    """As :func:`landmarks`; faces that fill the picture get a border and a second chance."""
    points = landmarks(mesh, rgb)
    if points is None:
        wide, margin = padded(rgb, 0.35)
        points = landmarks(mesh, wide)
        if points is not None:
            points[:, :2] -= margin
    return points


def label_stills(folder: Path, out: Path) -> None:
    rows = listing(folder, "file", PICTURES)
    mesh = face_mesh(static=True)
    segmenter = mp.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
    points, mattes, kept = [], [], []
    for row, _ in progress(rows):
        bgr = cv2.imread(str(folder / row["file"]))
        if bgr is None:
            print(f"unreadable: {row['file']}", file=sys.stderr)
            continue
        rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        found = still_landmarks(mesh, rgb)
        points.append(np.full((478, 3), np.nan, np.float32) if found is None else found)
        mattes.append(matte(segmenter, rgb))
        kept.append(row)
    save(
        out,
        files=np.array([r["file"] for r in kept]),
        split=np.array([r.get("split") or "train" for r in kept]),
        style=np.array([r.get("style") or "photo" for r in kept]),
        landmarks=np.array(points),
        mattes=np.array(mattes),
    )


def frames(path: Path) -> Iterator[np.ndarray]:
    """Pictures at 25 a second, as ``sfumato.media.video.VideoReader`` shows them to all others."""
    capture = cv2.VideoCapture(str(path))
    step = 1 / (capture.get(cv2.CAP_PROP_FPS) or FPS)
    wide, high = capture.get(cv2.CAP_PROP_SAR_NUM), capture.get(cv2.CAP_PROP_SAR_DEN)
    aspect = wide / high if wide > 0 and high > 0 else 1.0  # of a pixel
    shown, start, emitted = None, 0.0, 0
    while True:
        good, bgr = capture.read()
        start = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 if good else start + step
        due = round(round(start * FPS, 4))
        if shown is not None:
            # The picture before stays until this one is due; the last one is shown in any case.
            for _ in range(due - emitted if good else max(1, due - emitted)):
                yield shown
            emitted = max(emitted, due)
        if not good:
            break
        shown = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        if aspect != 1:
            side = (max(1, round(bgr.shape[1] * aspect)), bgr.shape[0])
            shown = cv2.resize(shown, side, interpolation=cv2.INTER_CUBIC)
    capture.release()


def label_clip(path: Path, out: Path) -> None:
    mesh = face_mesh(static=False)
    segmenter = mp.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
    points, mattes, matte_frames = [], [], []
    for number, rgb in enumerate(frames(path)):
        found = landmarks(mesh, rgb)
        points.append(np.full((478, 3), np.nan, np.float32) if found is None else found)
        if number % SAMPLE_EVERY == 0:
            mattes.append(matte(segmenter, rgb))
            matte_frames.append(number)
    mesh.close()
    segmenter.close()
    save(
        out,
        landmarks=np.array(points, np.float32).reshape(-1, 478, 3),
        mattes=np.array(mattes),
        matte_frames=np.array(matte_frames),
    )


def label_clips(folder: Path, out: Path, part: int, parts: int) -> None:
    rows = listing(folder, "clip", VIDEOS)[part::parts]
    for row, _ in progress(rows):
        target = out / (row["clip"].rsplit(".", 1)[0] + ".npz")
        if not target.exists():
            label_clip(folder / row["clip"], target)


def save(path: Path, **arrays: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    np.savez_compressed(partial, **arrays)
    os.replace(partial, path)


def progress(rows: list[dict[str, str]]) -> Iterator[tuple[dict[str, str], int]]:
    start = time.monotonic()
    for number, row in enumerate(rows, 1):
        yield row, number
        if number % 50 == 0 or number == len(rows):
            left = (time.monotonic() - start) / number * (len(rows) - number)
            print(f"{number}/{len(rows)}, {left:.0f} s left", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("stills", "clips"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--part", default="0/1", help="I/N: only every N-th clip, from the I-th")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.what == "stills":
        label_stills(options.folder, options.out)
    else:
        part, parts = map(int, options.part.split("/"))
        label_clips(options.folder, options.out, part, parts)


if __name__ == "__main__":
    main()
