"""Make the built-in speech and song: ``python assets/make_sounds.py [-o FOLDER]``.

Needs Debian's ``festival``, ``festvox-us-slt-hts`` (the speaker) and ``festvox-kallpc16k`` (the
singer, raised by resampling to a woman's pitch), numpy, scipy and PyAV. Text, words, lute and room
are our own; the tune is Greensleeves, printed before 1600.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from scipy.signal import butter, fftconvolve, lfilter, resample_poly, sosfilt

RATE = 24000
OUT = Path(__file__).resolve().parent.parent / "sfumato" / "data" / "demo"
LOUDNESS = -18.0  # LUFS
SPEECH = (
    "Good evening. A small program painted me, point by point. "
    "Now my lips may move, and I have waited five hundred years to tell you: "
    "beauty is made of light, and shadow, and love."
)
# (syllables of one word, notes as MIDI numbers, lengths in eighths). A dorian.
SONG: list[tuple[str, list[int], list[float]]] = [
    ("my", [57], [1]),
    ("lips", [60], [2]),
    ("were", [62], [1]),
    ("paint", [64], [1.5]),
    ("my", [66], [0.5]),
    ("eyes", [64], [1]),
    ("were", [62], [2]),
    ("light", [59], [1]),
    ("and", [55], [1.5]),
    ("now", [57], [0.5]),
    ("a", [59], [1]),
    ("song", [60], [2]),
    ("has", [57], [1]),
    ("woken", [57, 56], [1.5, 0.5]),
    ("me", [57], [1]),
    ("from", [59], [2]),
    ("my", [56], [1]),
    ("dream", [52], [3.5]),
]
EIGHTH = 0.335  # seconds
# The singer is a man; played this much faster he is a woman of shorter throat.
RAISE = Fraction(13, 11)
# Chords of the lute, one for each bar of six eighths, after the upbeat.
CHORDS = [
    (45, 52, 57, 60, 64, 60),
    (43, 50, 55, 59, 62, 59),
    (45, 52, 57, 60, 64, 57),
    (40, 47, 52, 56, 59, 64),
    (40, 47, 52, 56),
]


def read_wave(path: Path) -> tuple[int, np.ndarray]:
    """Sample rate and float64 mono samples of a 16-bit WAV file."""
    with wave.open(str(path)) as sound:
        data = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
        return sound.getframerate(), data / 32768.0


def festival(text: str, voice: str, mode: str | None = None) -> tuple[int, np.ndarray]:
    """Let Festival speak or sing ``text``."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "text", Path(folder) / "sound.wav"
        source.write_text(text)
        command = ["text2wave", "-o", str(out), "-eval", f"(voice_{voice})"]
        command += ["-mode", mode] if mode else []
        subprocess.run([*command, str(source)], check=True)
        return read_wave(out)


def frequency(note: float) -> float:
    return float(440.0 * 2 ** ((note - 69) / 12))


def score() -> str:
    """The song in Festival's singing language, slowed and lowered by ``RAISE``."""
    lines = [
        '<?xml version="1.0"?>',
        '<!DOCTYPE SINGING PUBLIC "-//SINGING//DTD SINGING mark up//EN" "Singing.v0_1.dtd" []>',
        '<SINGING BPM="60">',
    ]
    for word, notes, lengths in SONG:
        pitch = ",".join(f"{frequency(n) / float(RAISE):.2f}" for n in notes)
        seconds = ",".join(f"{length * EIGHTH * float(RAISE):.4f}" for length in lengths)
        sung = f'<DURATION SECONDS="{seconds}">{word}</DURATION>'
        lines.append(f'<PITCH FREQ="{pitch}">{sung}</PITCH>')
    return "\n".join([*lines, "</SINGING>"])


def trimmed(sound: np.ndarray, rate: int, keep: float = 0.06) -> np.ndarray:
    """Cut silence at both ends down to ``keep`` seconds."""
    level = np.convolve(np.abs(sound), np.ones(rate // 100) / (rate // 100), "same")
    loud = np.flatnonzero(level > 0.02 * level.max())
    first = max(loud[0] - int(keep * rate), 0)
    return sound[first : loud[-1] + int(keep * rate)]


def vibrato(sound: np.ndarray, rate: int) -> np.ndarray:
    """A singer's 5 Hz wavering by about a fifth of a semitone, growing and ebbing."""
    t = np.arange(len(sound)) / rate
    depth = 0.00032 * (0.6 + 0.4 * np.sin(2 * np.pi * 0.41 * t))
    return np.interp(t + depth * np.sin(2 * np.pi * 5.1 * t), t, sound)


def pluck(note: float, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """A gut string by Karplus and Strong (1983): a noise burst in a damped loop."""
    period = RATE / frequency(note)
    whole = int(period - 0.5)
    burst = sosfilt(butter(2, 2600, fs=RATE, output="sos"), rng.standard_normal(whole))
    # Plucked at a fifth of the string: that overtone and its multiples are weak.
    burst = burst - 0.7 * np.roll(burst, whole // 5)
    excitation = np.zeros(int(seconds * RATE))
    excitation[:whole] = burst - burst.mean()
    share = period - 0.5 - whole  # fractional part of the loop, by linear interpolation
    loss = 0.9965
    low, high = 0.5 * (1 - share), 0.5 * share
    feedback = np.zeros(whole + 3)
    feedback[0] = 1.0
    feedback[whole] -= loss * low
    feedback[whole + 1] -= loss * 0.5
    feedback[whole + 2] -= loss * high
    out = lfilter([1.0], feedback, excitation)
    return out / np.abs(out).max() * np.exp(-np.arange(len(out)) / RATE * 0.9)


def lute(beats: float, rng: np.random.Generator) -> np.ndarray:
    """Broken chords under the melody; time 0 is the upbeat."""
    out = np.zeros(int((beats * EIGHTH + 1.5) * RATE))
    for bar, chord in enumerate(CHORDS):
        for step, note in enumerate(chord):
            start = (1 + 6 * bar + step) * EIGHTH + rng.uniform(0, 0.012)
            tone = pluck(note, 2.2, rng) * (1.0 if step == 0 else rng.uniform(0.45, 0.62))
            at = int(start * RATE)
            tone = tone[: max(len(out) - at, 0)]
            out[at : at + len(tone)] += tone
    return out


def room(sound: np.ndarray, wet: float, decay: float, rng: np.random.Generator) -> np.ndarray:
    """A small stone room: noise that dies away, darker than the sound itself."""
    t = np.arange(int(decay * 1.1 * RATE)) / RATE
    tail = rng.standard_normal(len(t)) * np.exp(-6.9 * t / decay)
    tail[: int(0.012 * RATE)] = 0
    tail = sosfilt(butter(1, 3000, fs=RATE, output="sos"), tail)
    tail /= np.sqrt((tail**2).sum())
    return np.concatenate([sound, np.zeros(len(t) - 1)]) + wet * fftconvolve(sound, tail)


def loudness(sound: np.ndarray) -> float:
    """Gated loudness, LUFS (ITU-R BS.1770-4; the weighting by its analogue prototypes)."""
    f, g, q = 1681.97, 3.99984, 0.70718
    k = np.tan(np.pi * f / RATE)
    v = 10 ** (g / 20)
    vb = v**0.49967
    a0 = 1 + k / q + k * k
    shelf = [(v + vb * k / q + k * k) / a0, 2 * (k * k - v) / a0, (v - vb * k / q + k * k) / a0]
    weighted = lfilter(shelf, [1, 2 * (k * k - 1) / a0, (1 - k / q + k * k) / a0], sound)
    f, q = 38.1355, 0.50033
    k = np.tan(np.pi * f / RATE)
    a0 = 1 + k / q + k * k
    weighted = lfilter([1, -2, 1], [1, 2 * (k * k - 1) / a0, (1 - k / q + k * k) / a0], weighted)
    block, hop = int(0.4 * RATE), int(0.1 * RATE)
    power = np.array([np.mean(weighted[i : i + block] ** 2)
                      for i in range(0, len(weighted) - block, hop)])  # fmt: skip
    power = power[power > 10 ** ((-70 + 0.691) / 10)]
    power = power[power > power.mean() / 10]
    return float(-0.691 + 10 * np.log10(power.mean()))


def finished(sound: np.ndarray) -> np.ndarray:
    """Cut to what is heard, faded at the ends, at the wanted loudness, peaks rounded off."""
    level = np.convolve(np.abs(sound), np.ones(480) / 480, "same")
    sound = sound[: np.flatnonzero(level > 0.012 * level.max())[-1] + int(0.10 * RATE)].copy()
    fade = int(0.25 * RATE)
    sound[-fade:] *= np.cos(np.linspace(0, np.pi / 2, fade)) ** 2
    sound[: RATE // 100] *= np.linspace(0, 1, RATE // 100)
    sound *= 10 ** ((LOUDNESS - loudness(sound)) / 20)
    over = np.abs(sound) > 0.6
    bent = 0.6 + 0.28 * np.tanh((np.abs(sound) - 0.6) / 0.28)
    return np.where(over, np.sign(sound) * bent, sound)


def save(path: Path, sound: np.ndarray) -> None:
    """Write mono Opus in Ogg."""
    pcm = (np.clip(sound, -1, 1) * 32767).astype(np.int16)[None, :]
    with av.open(str(path), "w", format="ogg") as file:
        stream = file.add_stream("libopus", rate=RATE)
        stream.layout = "mono"
        stream.bit_rate = 56000
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm), format="s16", layout="mono")
        frame.sample_rate = RATE
        frame.time_base = Fraction(1, RATE)
        frame.pts = 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)


def speech(rng: np.random.Generator) -> np.ndarray:
    """The lady introduces herself."""
    rate, voice = festival(SPEECH, "cmu_us_slt_arctic_hts")
    voice = trimmed(voice, rate, 0.12)
    voice = resample_poly(voice, RATE // 8000, rate // 8000)
    # Less boom and buzz, a little air.
    voice = sosfilt(butter(2, 90, "highpass", fs=RATE, output="sos"), voice)
    air = sosfilt(butter(1, 3500, "highpass", fs=RATE, output="sos"), voice)
    return finished(room(voice + 0.20 * air, 0.10, 0.45, rng))


def song(rng: np.random.Generator) -> np.ndarray:
    """The lady sings, with a lute."""
    rate, voice = festival(score(), "kal_diphone", "singing")
    voice = trimmed(voice, rate, 0.02)
    at = Fraction(RATE, rate) / RAISE
    voice = resample_poly(voice, at.numerator, at.denominator)
    voice = vibrato(voice, RATE)
    voice = sosfilt(butter(2, 120, "highpass", fs=RATE, output="sos"), voice)
    beats = sum(sum(lengths) for _, _, lengths in SONG)
    strings = lute(beats, rng)
    voice *= 0.09 / np.sqrt(np.mean(voice**2))
    strings *= 0.028 / np.sqrt(np.mean(strings**2))
    lead = int(0.16 * RATE)  # the lute comes in on the upbeat's heels
    out = np.zeros(max(len(voice) + lead, len(strings)))
    out[lead : lead + len(voice)] += voice
    out[: len(strings)] += strings
    return finished(room(out, 0.20, 0.9, rng))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, default=OUT)
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    save(folder / "speech.ogg", speech(np.random.default_rng(1503)))
    save(folder / "song.ogg", song(np.random.default_rng(1580)))


if __name__ == "__main__":
    main()
