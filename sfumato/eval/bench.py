"""``sfumato bench``: measured speed, memory and size of every stage, with the machine's own speed.

Frames a second mean little without knowing the machine: the throughput of a plain 3x3 convolution
in onnxruntime stands beside every figure, so that figures from different machines compare.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from importlib.resources import as_file
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from sfumato import machine, weights
from sfumato.avatar import Studio
from sfumato.engine import Network
from sfumato.landmarks import FaceEncoder
from sfumato.media.audio import AudioReader
from sfumato.media.image import jpeg, load_image
from sfumato.motion import MotionStream
from sfumato.render.badge import marked
from sfumato.timebase import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME

PORTRAIT, SPEECH = "demo/portrait.jpg", "demo/speech.ogg"
PROBE_SHAPE = (1, 64, 128, 128)
PROBE_FLOP = 4 * 2 * 64 * 64 * 9 * 128 * 128  # four layers of 64 -> 64 channels
LONG_SECONDS = 600

# Run in a process of its own: cold start, one kind of work, its own peak memory.
_ANIMATE = """
import sys, time, json
start = float(sys.argv[5])
import sfumato
studio = sfumato.load(int(sys.argv[4]), alone=True, helpers=True)
avatar = studio.avatar(sys.argv[1])
pictures = iter(avatar.animate(sys.argv[2]))
next(pictures)
first = time.time() - start
pictures.close()
begin, count = time.time(), 0
def tick(done, total):
    global count
    count = done
avatar.animate(sys.argv[2]).save(sys.argv[3], force=True, progress=tick)
seconds = time.time() - begin
import numpy
from sfumato.media.audio import AudioReader
from sfumato.timebase import SAMPLES_PER_FRAME as N
with AudioReader(sys.argv[2]) as reader:
    sound = numpy.concatenate([s for s, _ in zip(reader, range(600))])[: 300 * N]
stream, live = avatar.stream(), []
for at in range(0, len(sound), N):
    begin = time.perf_counter()
    if stream.push(sound[at : at + N]):
        live.append(1000 * (time.perf_counter() - begin))
p50, p95 = numpy.percentile(live[5:], [50, 95])
studio.crew.close()
try:
    import resource
    unit = 2**20 if sys.platform == "darwin" else 1024
    here, helper = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    peak = sum(resource.getrusage(who).ru_maxrss for who in (here, helper)) / unit
except ImportError:
    peak = float("nan")
print(json.dumps({"first": first, "fps": count / seconds, "frames": count, "peak": peak,
                  "live_ms_p50": p50, "live_ms_p95": p95}))
"""


def best_of(work: Callable[[], object], times: int = 5) -> float:
    """Median seconds of one call, after one that is not counted."""
    work()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def convolution_gflops(threads: int) -> float:
    """Throughput of dense 3x3 float32 convolutions in onnxruntime, GFLOP/s."""
    probe = Network("probe_conv", threads)
    picture = np.random.default_rng(0).standard_normal(PROBE_SHAPE).astype(np.float32)
    return PROBE_FLOP / best_of(lambda: probe(picture), 9) / 1e9


def installed_megabytes(name: str = "sfumato") -> float:
    """Size of the package and of everything that it needs, as installed, MB."""
    seen: set[str] = set()
    waiting, total = [name], 0
    while waiting:
        current = waiting.pop().lower().replace("_", "-")
        if current in seen:
            continue
        seen.add(current)
        try:
            package = metadata.distribution(current)
        except metadata.PackageNotFoundError:
            continue
        total += sum(_size(Path(str(package.locate_file(f)))) for f in package.files or [])
        for requirement in package.requires or []:
            if "extra ==" not in requirement:
                waiting.append(
                    requirement.split(";")[0].split("[")[0].strip(" ()<>=!~.0123456789,")
                )
    return total / 1e6


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def stages(photo: Path, sound: Path) -> dict[str, float]:
    """Milliseconds of each stage on one core.

    ``motion_per_second`` is for one second of sound at once; ``motion_frame`` for one frame of it
    between two pictures, as in live use, where the weights have left the caches meanwhile.
    """
    cv2.setNumThreads(1)
    studio = Studio(1)
    encoder = FaceEncoder.load(1)
    image = load_image(photo)
    face = encoder.analyse(image)
    avatar = studio.avatar(photo)
    with AudioReader(sound) as reader:
        samples = np.concatenate(list(reader))[: 4 * SAMPLE_RATE]
    motion = studio.motion(sound)
    numbers = iter(range(10**9))

    def render() -> object:
        return avatar.renderer.render(motion[next(numbers) % len(motion)])

    def speak() -> object:
        stream = MotionStream(studio.generator)
        return stream.push(samples), stream.flush()

    picture = avatar.renderer.render(motion[0]).image
    packed = np.frombuffer(jpeg(picture), np.uint8)
    seconds = {
        "detect": best_of(lambda: encoder.detect(image)),
        "landmarks_still": best_of(lambda: encoder.analyse(image)),
        "landmarks_track": best_of(lambda: encoder.track(image, face), 20),
        "matte": best_of(lambda: encoder.matte(image, face)),
        "prepare_photo": best_of(lambda: studio.avatar(photo), 3),
        "motion_per_second": best_of(speak, 3) / (len(samples) / SAMPLE_RATE),
        "motion_frame": _live_motion(studio, samples, render),
        "render_frame": best_of(render, 50),
        "mark_frame": best_of(lambda: marked(picture), 50),
        "pack_frame": best_of(lambda: jpeg(picture), 50),
        "unpack_frame": best_of(lambda: cv2.imdecode(packed, cv2.IMREAD_COLOR), 50),
    }
    return {name: round(1000 * value, 2) for name, value in seconds.items()}


def _live_motion(
    studio: Studio, samples: NDArray[np.float32], between: Callable[[], object]
) -> float:
    """Median seconds of motion for one more frame of sound."""
    stream, taken = MotionStream(studio.generator), []
    for start in range(0, len(samples) - SAMPLES_PER_FRAME, SAMPLES_PER_FRAME):
        between()
        begin = time.perf_counter()
        stream.push(samples[start : start + SAMPLES_PER_FRAME])
        taken.append(time.perf_counter() - begin)
    return float(np.median(taken))


def end_to_end(photo: Path, sound: Path, cores: int) -> dict[str, float]:
    """Cold start, frames a second with encoding, peak memory of a process on ``cores`` cores.

    ``live_ms``: from the sound of one more frame to a picture, when sound comes frame by frame.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", _ANIMATE, str(photo), str(sound)]
        command += [str(Path(folder) / "out.mp4"), str(cores), repr(time.time())]
        limit = {"OMP_NUM_THREADS": str(cores), "OPENBLAS_NUM_THREADS": str(cores)}
        pin = _pinned(cores)
        done = subprocess.run(
            command,
            env=os.environ | limit,
            stdout=subprocess.PIPE,
            check=True,
            preexec_fn=pin,  # noqa: PLW1509 - no threads are running in this process
        )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _pinned(cores: int) -> Callable[[], None] | None:
    """A function that keeps a new process on so many cores; None where the system cannot."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    chosen = sorted(os.sched_getaffinity(0))[:cores]
    return lambda: os.sched_setaffinity(0, chosen)


def lengthened(sound: Path, seconds: int, out: Path) -> Path:
    """A recording repeated until it lasts ``seconds``, as 16 kHz mono FLAC."""
    with AudioReader(sound) as reader:
        samples = np.concatenate(list(reader))
    whole = np.resize(samples, seconds * SAMPLE_RATE)
    with av.open(str(out), "w") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE, layout="mono")
        for start in range(0, len(whole), SAMPLES_PER_FRAME * FPS):
            part = (whole[start : start + SAMPLES_PER_FRAME * FPS] * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(part[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out


def run_bench(long: bool = False) -> dict[str, Any]:
    """All figures as one dictionary.

    Args:
        long: also animate ten minutes of sound, to show that memory stays the same.
    """
    cores = machine.cores()
    with as_file(weights.find(PORTRAIT)) as photo, as_file(weights.find(SPEECH)) as sound:
        result: dict[str, Any] = {
            "machine": {
                "processor": platform.processor() or platform.machine(),
                "cores": cores,
                "conv_gflops_1": round(convolution_gflops(1), 1),
                "conv_gflops_2": round(convolution_gflops(2), 1),
            },
            "stages_ms": stages(photo, sound),
            "installed_mb": round(installed_megabytes(), 1),
        }
        for count in (1, 2):
            if count <= cores:
                result[f"cores_{count}"] = _rounded(end_to_end(photo, sound, count))
        if long:
            with tempfile.TemporaryDirectory() as folder:
                hours = lengthened(sound, LONG_SECONDS, Path(folder) / "long.flac")
                result["ten_minutes"] = _rounded(end_to_end(photo, hours, min(2, cores)))
    return result


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in values.items()}


def show(figures: dict[str, Any]) -> None:
    """The figures as a table on the terminal."""
    table = Table("what", "figure", box=None)
    for part, values in figures.items():
        rows = values if isinstance(values, dict) else {"": values}
        for name, value in rows.items():
            table.add_row(f"{part} {name}".strip().replace("_", " "), str(value))
    Console().print(table)
