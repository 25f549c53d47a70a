"""Which kinds of files ffmpeg may open: those that hold their own pictures and sound.

Playlists and the like name other files and hosts, so a stranger's upload could make a server read
out what only the server can reach; devices are no files at all.
"""

from __future__ import annotations

import functools

import av

_POINTERS = {"concat", "dash", "hds", "hls", "imf", "rtp", "rtsp", "sap", "sdp", "vobsub"}
_POINTERS |= {"smoothstreaming", "webm_dash_manifest"}
_SCRIPTS = {"avisynth", "lavfi", "vapoursynth"}
_DEVICES = {"alsa", "fbdev", "kmsgrab", "oss", "video4linux2,v4l2", "x11grab"}
_DEVICES |= {"avfoundation", "dshow", "gdigrab", "jack", "pulse", "xcbgrab"}


@functools.cache
def self_contained() -> dict[str, str]:
    """Options for ``av.open`` that refuse all other kinds of files."""
    names = av.formats_available - _POINTERS - _SCRIPTS - _DEVICES
    return {"format_whitelist": ",".join(sorted(names))}
