"""The sync expert as an ONNX file for any length of clip."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper

from sfumato.models.sync import SyncNet
from sfumato.speech import HOPS_PER_FRAME
from sfumato.train.export import halve_weights


def export_sync(net: SyncNet, path: Path) -> Path:
    """Write ``path``: ``motion`` (B, T, n), ``sound`` (B, 4 T, N_MELS) -> ``seen``, ``said``.

    Raises:
        RuntimeError: The file does not answer as the network does.
    """
    net = copy.deepcopy(net).eval()
    inputs = example(net, 40)
    partial = path.with_suffix(".partial.onnx")
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        net,
        inputs,
        str(partial),
        input_names=["motion", "sound"],
        output_names=["seen", "said"],
        dynamic_axes={
            "motion": {0: "batch", 1: "frames"},
            "sound": {0: "batch", 1: "hops"},
            "seen": {0: "batch", 1: "frames"},
            "said": {0: "batch", 1: "frames"},
        },
        opset_version=17,
        dynamo=False,
    )
    model = onnx.load(str(partial))
    halve_weights(model)
    helper.set_model_props(model, {"format_version": "1", "n_motion": str(net.dims.n_motion)})
    onnx.checker.check_model(model)
    onnx.save(model, str(partial))
    probe = example(net, 57)
    session = onnxruntime.InferenceSession(str(partial), providers=["CPUExecutionProvider"])
    feeds = dict(zip(("motion", "sound"), (p.numpy() for p in probe), strict=True))
    with torch.no_grad():
        wanted = net(*probe)
    for ours, theirs in zip(session.run(None, feeds), wanted, strict=True):
        if np.abs(ours - theirs.numpy()).max() > 0.05:
            raise RuntimeError(f"{path} answers otherwise than the network")
    os.replace(partial, path)
    return path


def example(net: SyncNet, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise of the right shape."""
    noise = torch.Generator().manual_seed(frames)
    motion = torch.randn((1, frames, net.dims.n_motion), generator=noise)
    return motion, torch.randn((1, frames * HOPS_PER_FRAME, net.dims.n_mels), generator=noise)
