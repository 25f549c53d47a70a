"""The networks that ship with the package, run by onnxruntime on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sfumato import weights
from sfumato.errors import InputError

# Channels last cost our 8-bit networks 7 %: layers without weights are slower than with planes.
_SLOW = ["NhwcTransformer"]


class Network:
    """An ONNX network: arrays in, arrays out. Holds no state; share one object between streams.

    Args:
        source: name of a shipped network (``face_landmarks``) or the path of an ONNX file.
        threads: cores it may use at most.

    Raises:
        InputError: There is no such network, or the file is broken.
    """

    def __init__(self, source: str | Path, threads: int = 1) -> None:
        onnxruntime.disable_telemetry_events()  # nothing of a user's work is anybody's business
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Spinning threads would burn the cores that the encoder and other streams need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Warnings of the runtime are not for users.
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                weights.read(f"{source}.onnx") if isinstance(source, str) else source.read_bytes(),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=_SLOW,
            )
        except OSError as error:
            raise InputError(f"network {source} cannot be read: {error}") from error
        except Exception as error:
            # onnxruntime has a dozen exception types without a common base.
            raise InputError(f"{source} is not a usable ONNX network: {error}") from error
        self._inputs = [i.name for i in self._session.get_inputs()]

    def __call__(self, *inputs: NDArray[np.generic]) -> list[NDArray[np.float32]]:
        outputs: list[NDArray[np.float32]] = self._session.run(
            None, dict(zip(self._inputs, inputs, strict=True))
        )
        return outputs

    @property
    def metadata(self) -> dict[str, str]:
        """Facts stored in the file by training (format version and the like)."""
        return dict(self._session.get_modelmeta().custom_metadata_map)
