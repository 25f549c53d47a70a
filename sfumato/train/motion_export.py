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

CLOSED = 0.015  # opening in face units at which lips look closed
LEAST = -0.012  # face units; closed lips press on each other no more than this


@dataclass(frozen=True)
class Stretch:
    """Makes the network as lively as people: regression to the mean made it too timid.

    Coefficients are multiplied by ``gain`` (n,). The lips' opening that they give together (their
    product with ``opening`` (n,), face units) becomes ``slope * (opening - shut)`` and at least
    ``LEAST``, by way of the coefficient ``index``.
    """

    gain: Array
    opening: Array
    slope: float
    shut: float
    index: int

    def __call__(self, motion: Tensor) -> Tensor:
        """(..., n) -> (..., n)."""
        stretched = motion * torch.from_numpy(self.gain)
        row = torch.from_numpy(self.opening)
        now = (stretched * row).sum(-1, keepdim=True)
        wanted = torch.clamp(self.slope * (now - self.shut), min=LEAST)
        change = torch.zeros(len(row))
        change[self.index] = 1.0 / row[self.index]
        return stretched + (wanted - now) * change


class _Deployed(nn.Module):
    """The network with its output stretched."""

    def __init__(self, net: MotionNet, stretch: Stretch) -> None:
        super().__init__()
        self.net, self.stretch = net, stretch

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        motion, voice = self.net(features)
        return self.stretch(motion), voice


def calibrate(made: Array, real: Array, opening: Array, index: int) -> Stretch:
    """The stretch by which the network's output (T, n) moves as much as real faces do.

    Not all the way: what the network does not know it should not shout. The lips are closed as
    large a share of the time as real ones, and as wide open at the top (95 %).
    """
    spread = np.maximum(made.std(axis=0), 1e-6)
    gain = np.clip((real.std(axis=0) / spread) ** 0.7, 1.0, 1.5).astype(np.float32)
    ours, people = (made * gain) @ opening, real @ opening
    shut, wide = np.quantile(ours, [np.clip((people < CLOSED).mean(), 0.05, 0.4), 0.95])
    slope = np.clip(np.quantile(people, 0.95) / max(wide - shut, 1e-6), 0.5, 3.0)
    return Stretch(gain, opening.astype(np.float32), float(slope), float(shut), index)


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
