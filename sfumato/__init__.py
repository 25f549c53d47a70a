"""Sfumato: one portrait and a recording become a video of that person speaking it.

    import sfumato

    avatar = sfumato.load().avatar("me.jpg")
    avatar.animate("hello.wav").save("out.mp4")

Importing loads nothing; the names below bring in what they need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sfumato.avatar import Avatar, Clip, Studio, load
    from sfumato.errors import SfumatoError
    from sfumato.motion import MotionOptions
    from sfumato.motionfile import Motion
    from sfumato.stream import Frame, Stream

__version__ = "0.1.0"

_HOMES = {
    "load": "avatar",
    "Studio": "avatar",
    "Avatar": "avatar",
    "Clip": "avatar",
    "Stream": "stream",
    "Frame": "stream",
    "Motion": "motionfile",
    "MotionOptions": "motion",
    "SfumatoError": "errors",
}
__all__ = [
    "Avatar",
    "Clip",
    "Frame",
    "Motion",
    "MotionOptions",
    "SfumatoError",
    "Stream",
    "Studio",
    "__version__",
    "load",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"sfumato.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'sfumato' has no attribute {name!r}")
