"""Trained networks to ONNX: normalisation folded, weights stored as half floats, parity checked."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn


def halve_weights(model: onnx.ModelProto, smallest: int = 1024) -> None:
    """Store large float32 weights as float16 with a cast to float32 behind them.

    onnxruntime folds the casts when it loads the file: half the size on disk, float32 at run time.
    """
    graph = model.graph
    for tensor in list(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < smallest:
            continue
        name = tensor.name
        half = numpy_helper.to_array(tensor).astype(np.float16)
        graph.initializer.remove(tensor)
        graph.initializer.append(numpy_helper.from_array(half, name + "_half"))
        graph.node.insert(
            0, helper.make_node("Cast", [name + "_half"], [name], to=TensorProto.FLOAT)
        )


def export_onnx(
    network: nn.Module,
    example: Tensor,
    path: Path,
    *,
    free: bool = False,
    metadata: dict[str, str] | None = None,
) -> float:
    """Write ``network`` to ``path`` and return its largest difference from torch on noise.

    Args:
        example: input of the right shape; the batch axis stays free, with ``free`` the sides too.
        metadata: text stored in the file (format version, training facts).
    """
    network = network.eval()
    axes = {0: "batch"} | ({2: "height", 3: "width"} if free else {})
    partial = path.with_suffix(".partial.onnx")
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        network,
        (example,),
        str(partial),
        input_names=["picture"],
        dynamic_axes={"picture": axes},
        opset_version=17,
        dynamo=False,
    )
    model = onnx.load(str(partial))
    halve_weights(model)
    helper.set_model_props(model, {"format_version": "1"} | (metadata or {}))
    onnx.checker.check_model(model)
    onnx.save(model, str(partial))
    probe = torch.randn(example.shape, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(str(partial), providers=["CPUExecutionProvider"])
    ours = session.run(None, {"picture": probe.numpy()})[0]
    with torch.no_grad():
        theirs = network(probe)
    first = theirs[0] if isinstance(theirs, tuple) else theirs
    os.replace(partial, path)
    return float(np.abs(ours - first.numpy()).max())


def write_probe(path: Path) -> None:
    """The convolution by which ``sfumato bench`` measures a machine: four layers of 64 channels."""
    nodes = [
        helper.make_node(
            "ConstantOfShape",
            ["shape"],
            ["weight"],
            value=helper.make_tensor("v", TensorProto.FLOAT, [1], [0.04]),
        )
    ]
    names = ["picture", "a", "b", "c", "out"]
    for source, target in zip(names[:-1], names[1:], strict=True):
        nodes.append(helper.make_node("Conv", [source, "weight"], [target], pads=[1, 1, 1, 1]))
    size = [1, 64, 128, 128]
    graph = helper.make_graph(
        nodes,
        "probe",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, size)],
        [helper.make_tensor("shape", TensorProto.INT64, [4], [64, 64, 3, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
