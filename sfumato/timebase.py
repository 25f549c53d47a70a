"""The one clock of the product: 25 video frames and 16 000 audio samples a second.

No other file writes these numbers. They divide exactly, so frame ``i`` owns the samples
``[i * SAMPLES_PER_FRAME, (i + 1) * SAMPLES_PER_FRAME)`` and picture and sound cannot drift.
"""

from __future__ import annotations


def exact_div(numerator: int, denominator: int) -> int:
    """Integer quotient; raises ValueError when the division leaves a remainder."""
    quotient, remainder = divmod(numerator, denominator)
    if remainder:
        raise ValueError(f"{numerator} is not a multiple of {denominator}")
    return quotient


FPS = 25
SAMPLE_RATE = 16_000
SAMPLES_PER_FRAME = exact_div(SAMPLE_RATE, FPS)


def frames_for(samples: int) -> int:
    """Number of video frames that cover ``samples`` audio samples (the last may be partial)."""
    return -(-samples // SAMPLES_PER_FRAME)
