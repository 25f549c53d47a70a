"""Sfumato: one photo and one recording become a talking portrait, on the CPU.

import sfumato
avatar = sfumato.load().avatar("me.jpg")
avatar.animate("hello.wav").save("hello.mp4")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sfumato.version import __version__

if TYPE_CHECKING:
    from sfumato.avatar import Avatar, Clip, Studio, load
    from sfumato.controls import MotionOptions, Timeline
    from sfumato.errors import InputError, NoFaceError, OutputError, SfumatoError
    from sfumato.latent import Motion
    from sfumato.live import LiveFrame, LiveSession
    from sfumato.stream import Frame, Stream

__all__ = [
    "Avatar",
    "Clip",
    "Frame",
    "InputError",
    "LiveFrame",
    "LiveSession",
    "Motion",
    "MotionOptions",
    "NoFaceError",
    "OutputError",
    "SfumatoError",
    "Stream",
    "Studio",
    "Timeline",
    "__version__",
    "load",
]

_HOMES = {
    "avatar": ("Avatar", "Clip", "Studio", "load"),
    "controls": ("MotionOptions", "Timeline"),
    "errors": ("InputError", "NoFaceError", "OutputError", "SfumatoError"),
    "latent": ("Motion",),
    "live": ("LiveFrame", "LiveSession"),
    "stream": ("Frame", "Stream"),
}


def __getattr__(name: str) -> Any:
    """Names arrive at first use: ``import sfumato`` alone loads no library."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"sfumato.{home}"), name)
    raise AttributeError(f"module 'sfumato' has no attribute {name!r}")
