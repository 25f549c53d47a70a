"""Trained networks to ONNX: normalisation folded, weights stored as half floats, parity checked."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
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
    example: Tensor | tuple[Tensor, ...],
    path: Path,
    *,
    names: tuple[str, ...] = ("picture",),
    free: bool = False,
    half: bool = True,
    metadata: dict[str, str] | None = None,
) -> float:
    """Write ``network`` to ``path`` and return its largest difference from torch on noise.

    Args:
        example: inputs of the right shapes; the batch axis stays free, with ``free`` the sides too.
        names: of the inputs.
        half: store weights as half floats.
        metadata: text stored in the file (format version, training facts).
    """
    network = network.eval()
    examples = example if isinstance(example, tuple) else (example,)
    axes = {0: "batch"} | ({2: "height", 3: "width"} if free else {})
    partial = path.with_suffix(".partial.onnx")
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        network,
        examples,
        str(partial),
        input_names=list(names),
        dynamic_axes=dict.fromkeys(names, axes),
        opset_version=17,
        dynamo=False,
    )
    model = onnx.load(str(partial))
    if half:
        halve_weights(model)
    helper.set_model_props(model, {"format_version": "1"} | (metadata or {}))
    onnx.checker.check_model(model)
    onnx.save(model, str(partial))
    noise = torch.Generator().manual_seed(0)
    probes = tuple(torch.randn(e.shape, generator=noise) for e in examples)
    session = onnxruntime.InferenceSession(str(partial), providers=["CPUExecutionProvider"])
    ours = session.run(None, {n: p.numpy() for n, p in zip(names, probes, strict=True)})
    with torch.no_grad():
        theirs = network(*probes)
    wanted = theirs if isinstance(theirs, tuple) else (theirs,)
    os.replace(partial, path)
    return max(float(np.abs(a - b.numpy()).max()) for a, b in zip(ours, wanted, strict=True))


Feed = dict[str, NDArray[np.float32]]


class _Feeds(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, feeds: Iterable[Feed]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


def quantise(
    path: Path, feeds: list[Feed], *, exact: tuple[str, ...] = (), towards: str | None = None
) -> list[float]:
    """Turn the layers of an exported float32 network into 8-bit ones, in place.

    Weights have a scale for each channel and keep to 7 bits: processors with AVX2 alone add pairs
    of products in 16 bits.

    Args:
        feeds: usual inputs, by which the ranges of the layers are measured.
        exact: parts of the names (name/) of convolutions and sums that stay as they are.
        towards: part of the name (name/) of a node; only what it is computed from is changed.

    Returns:
        Mean difference of every output on the feeds, in its own units.
    """
    options = {"providers": ["CPUExecutionProvider"]}
    before = onnxruntime.InferenceSession(str(path), **options)
    with tempfile.TemporaryDirectory() as folder:
        ready, small = Path(folder) / "ready.onnx", Path(folder) / "small.onnx"
        quant_pre_process(str(path), str(ready), skip_symbolic_shape=True)
        nodes = onnx.load(str(ready)).graph.node
        layers = [n.name for n in nodes if n.op_type in {"Conv", "Add"}]
        kept = {n.name for n in nodes if any(e in f"{n.name}/" for e in exact)}
        if towards is not None:
            kept |= {n.name for n in nodes} - _sources(nodes, towards)
        quantize_static(
            str(ready),
            str(small),
            _Feeds(feeds),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv", "Add", "Relu"],
            nodes_to_exclude=[name for name in layers if name in kept],
        )
        model = onnx.load(str(small))
    halve_weights(model)
    helper.set_model_props(model, {"format_version": "1", "weights": "int8"})
    onnx.save(model, str(path))
    after = onnxruntime.InferenceSession(str(path), **options)
    apart = [
        [float(np.abs(a - b).mean()) for a, b in zip(s.run(None, f), t.run(None, f), strict=True)]
        for s, t, f in ((before, after, feed) for feed in feeds)
    ]
    return [float(v) for v in np.mean(apart, axis=0)]


def _sources(nodes: Sequence[onnx.NodeProto], part: str) -> set[str]:
    """Names of all nodes that those with ``part`` in their names (name/) are computed from."""
    makers = {output: node for node in nodes for output in node.output}
    waiting = [value for node in nodes if part in f"{node.name}/" for value in node.input]
    found: set[str] = set()
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node.name not in found:
            found.add(node.name)
            waiting += node.input
    return found


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


# After features[1], [2], [4] and [6] of models.face.LandmarkNet: strides 4, 4, 8 and 16.
FEATURE_LAYERS = tuple(
    f"/features/features.{name}"
    for name in ("1/features.1.2/Relu_output_0", "2/Relu_output_0")
    + ("4/Relu_output_0", "6/features.6.2/Relu_output_0")
)


def cut_features(landmarks: Path, path: Path) -> None:
    """Make ``face_features.onnx``, by which evaluation sees, from an exported landmark network.

    The first layers of the network, with free sides: picture (B, 3, H, W) float32, RGB in [-1, 1],
    H and W multiples of 16 -> (B, 48, H/4, W/4), (B, 48, H/4, W/4), (B, 96, H/8, W/8) and
    (B, 160, H/16, W/16), float32 >= 0.

    Args:
        landmarks: ``face_landmarks.onnx`` as :func:`export_onnx` writes it.
        path: the file to write.
    """
    whole = onnx.shape_inference.infer_shapes(onnx.load(str(landmarks)))
    model = onnx.utils.Extractor(whole).extract_model(["picture"], list(FEATURE_LAYERS))
    for value, sides in [(model.graph.input[0], ("height", "width"))] + [
        (output, ("", "")) for output in model.graph.output
    ]:
        for dim, name in zip(value.type.tensor_type.shape.dim[2:], sides, strict=True):
            dim.Clear()
            dim.dim_param = name
    del model.graph.value_info[:]
    helper.set_model_props(model, {"format_version": "1"})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
