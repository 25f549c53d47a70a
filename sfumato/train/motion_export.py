"""Writes the trained motion network as ONNX, its statistics of life inside."""

from __future__ import annotations

import io
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from sfumato.life import LifeStats
from sfumato.models.motion import MotionDims, MotionNet
from sfumato.motion import FORMAT_VERSION
from sfumato.speech import N_MELS

Array = NDArray[np.float32]


class _Deployed(nn.Module):
    """The network with its output stretched: regression to the mean made it too timid.

    Stretched lips that press on each other stop at ``least``.
    """

    def __init__(self, net: MotionNet, stretch: Stretch) -> None:
        super().__init__()
        self.net = net
        for name, values in asdict(stretch).items():
            self.register_buffer(name, torch.from_numpy(np.asarray(values, np.float32)))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        motion, voice = self.net(features)
        return torch.maximum(motion * self.gain + self.offset, self.least), voice


@dataclass(frozen=True)
class Stretch:
    """``max(least, gain * x + offset)`` for every coefficient; arrays (n_out,)."""

    gain: Array
    offset: Array
    least: Array

    def __call__(self, motion: Array) -> Array:
        return np.maximum(motion * self.gain + self.offset, self.least).astype(np.float32)


def calibrate(made: Array, real: Array, open_index: int) -> Stretch:
    """The stretch that brings the spread of the network's output (T, n) near the real one.

    Not all the way: what the network does not know it should not shout. The lips' opening gets
    the real spread and, most of the way, the real mean (the loss on closures keeps it low); all
    else is stretched about zero. Silence must stay closed, so zero may rise to zero at most.
    """
    spread = np.maximum(made.std(axis=0), 1e-6)
    gain = np.clip((real.std(axis=0) / spread) ** 0.7, 1.0, 1.5)
    wide = [np.subtract(*np.quantile(x[:, open_index], [0.95, 0.05])) for x in (real, made)]
    gain[open_index] = np.clip((wide[0] / max(wide[1], 1e-6)) ** 0.9, 1.0, 2.2)
    offset, least = np.zeros_like(gain), np.full_like(gain, -6.0)
    now, goal = made[:, open_index].mean(), real[:, open_index].mean()
    offset[open_index] = min(0.3 * now + 0.7 * goal - gain[open_index] * now, 0.0)
    least[open_index] = -0.25
    return Stretch(*(a.astype(np.float32) for a in (gain, offset, least)))


def load_checkpoint(path: Path) -> MotionNet:
    """The network of a checkpoint, ready to run."""
    state = torch.load(path, weights_only=True)
    dims = state["dims"] | {"dilations": tuple(state["dims"]["dilations"])}
    net = MotionNet(MotionDims(**dims))
    net.load_state_dict(state["net"])
    return net.eval()


def export(net: MotionNet, stretch: Stretch, stats: LifeStats, path: Path) -> None:
    """Writes ``path``; complete or absent.

    Args:
        net: trained.
        stretch: see :func:`calibrate`.
        stats: of life.
        path: of the ONNX file.
    """
    deployed = _Deployed(net, stretch).eval()
    window = torch.zeros(1, net.dims.window_hops, N_MELS)
    buffer = io.BytesIO()
    torch.onnx.export(
        deployed, (window,), buffer, input_names=["features"], output_names=["motion", "voice"],
        opset_version=17, dynamo=False,
    )  # fmt: skip
    model = onnx.load_from_string(buffer.getvalue())
    halve(model)
    facts = {
        "format_version": str(FORMAT_VERSION),
        "look_ahead": str(net.dims.look_ahead),
        "window_hops": str(net.dims.window_hops),
        "life": json.dumps({k: _short(v) for k, v in asdict(stats).items()}),
    }
    helper.set_model_props(model, facts)
    onnx.checker.check_model(model)
    partial = path.with_suffix(".partial")
    onnx.save(model, str(partial))
    os.replace(partial, path)


def halve(model: onnx.ModelProto) -> None:
    """Stores large weights as float16 with a cast in front: half the file, computed as float32."""
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < 256:
            continue
        name, values = tensor.name, numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(values, name + "_half"))
        casts.append(helper.make_node("Cast", [name + "_half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _short(value: object) -> object:
    """Numbers with five digits; nested tuples become lists."""
    if isinstance(value, (tuple, list)):
        return [_short(v) for v in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value
