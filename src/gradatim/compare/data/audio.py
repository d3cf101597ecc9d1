"""Clips of sound: WAV files to log-mel spectrograms, by NumPy and SciPy alone."""

from __future__ import annotations

import struct
import warnings
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np

from gradatim.compare.data.images import content_of
from gradatim.compare.data.rows import Rows
from gradatim.compare.extras import needs_extra
from gradatim.validation import refusal

__all__ = ["log_mel", "mel_filters", "read_clips"]

RATE = 16_000
LONGEST = 5 * RATE
WINDOW, HOP, BINS, MELS = 400, 160, 512, 64  # 25 ms, 10 ms


def mel_filters(mels: int = MELS) -> np.ndarray:
    """Build triangles that are equally wide on the mel scale, 2595 log10(1 + f / 700).

    Args:
        mels: number of triangles between 0 Hz and half the rate of 16 kHz.

    Returns:
        float64 (mels, 257): each row has its peak of 1 between its neighbours' peaks.

    Example:
        >>> filters = mel_filters(8)
        >>> filters.shape, bool((filters.argmax(1)[1:] > filters.argmax(1)[:-1]).all())
        ((8, 257), True)
    """
    highest = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, highest, mels + 2) / 2595) - 1)
    frequencies = np.linspace(0, RATE / 2, BINS // 2 + 1)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (frequencies - low) / (middle - low)
    falling = (high - frequencies) / (high - middle)
    return np.maximum(0, np.minimum(rising, falling))


def log_mel(clip: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """Compute a clip's log-mel spectrogram, scaled to [0, 1].

    Args:
        clip: float (T,), at 16 kHz, at least 400 samples (25 ms).
        filters: from `mel_filters`.

    Returns:
        float32 (mels, 1 + (T - 400) // 160). Silence is 0 throughout.

    Example:
        >>> tone = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
        >>> log_mel(tone, mel_filters()).shape
        (64, 98)
    """
    frames = np.lib.stride_tricks.sliding_window_view(clip, WINDOW)[::HOP]
    spectrum = np.fft.rfft(frames * np.hanning(WINDOW), BINS)
    power = np.log(filters @ (spectrum.real**2 + spectrum.imag**2).T + 1e-6)
    lowest, span = power.min(), np.ptp(power)
    return ((power - lowest) / (span if span > 0 else 1)).astype(np.float32)


def read_clips(rows: Rows, column: str) -> tuple[np.ndarray, dict[str, Any]]:
    """Read a column of WAV clips as spectrograms of one size.

    Channels are averaged, clips are resampled to 16 kHz, and cut or filled with silence at the
    end to the longest clip's length, 5 seconds at most.

    Args:
        rows: what was read.
        column: paths or encoded bytes.

    Returns:
        float32 (N, 1, 64, frames) in [0, 1], and a note for the record.

    Raises:
        ValueError: a clip is missing, empty or no WAV file; the message names it.

    Example:
        >>> import pandas as pd
        >>> rows = Rows(pd.DataFrame({"file": ["talk.mp3"]}), {"training": 1})
        >>> read_clips(rows, "file")
        Traceback (most recent call last):
        ValueError: audio 'file' must be a WAV file in every row. Got talk.mp3, row 0 ...
    """
    rows.check_present("audio", column)
    clips = []
    for i, cell in enumerate(rows.frame[column].tolist()):
        name, content = content_of(cell, rows.folder)
        rule, suffix = "a WAV file in every row", Path(name).suffix.lower()
        row = rows.where(np.arange(len(rows.frame)) == i)
        if suffix not in ("", ".wav"):
            cause = "Convert it, as with: ffmpeg -i in.mp3 out.wav"
            raise refusal(f"audio {column!r}", rule, f"{name}, {row}", cause)
        try:
            clips.append(_read_clip(content))
        except (OSError, ValueError, struct.error, Warning) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            got = f"{name} ({reason}), {row}"
            raise refusal(f"audio {column!r}", rule, got) from error
    length = max(WINDOW, *(len(clip) for clip in clips))
    filters = mel_filters()
    padded = (np.pad(clip, (0, length - len(clip))) for clip in clips)
    spectrograms = np.stack([log_mel(clip, filters) for clip in padded])[:, None]
    return spectrograms, {"seconds": length / RATE, "rate": RATE}


def _read_clip(content: Any) -> np.ndarray:
    with needs_extra("gradatim compare"):
        from scipy.io import wavfile
        from scipy.signal import resample_poly
    with warnings.catch_warnings():
        warnings.simplefilter("error", wavfile.WavFileWarning)  # a file that ends too early
        warnings.filterwarnings("ignore", "Chunk", wavfile.WavFileWarning)  # tags
        rate, samples = wavfile.read(content)
    if not len(samples):
        raise ValueError("no samples")
    if samples.dtype == np.uint8:
        clip = (samples.astype(np.float32) - 128) / 128
    elif np.issubdtype(samples.dtype, np.integer):
        clip = samples.astype(np.float32) / float(np.iinfo(samples.dtype).max)
    else:
        clip = samples.astype(np.float32)
    if not np.isfinite(clip).all():
        raise ValueError("values that are not finite")
    clip = clip.mean(axis=1) if clip.ndim == 2 else clip
    clip = clip[: int(np.ceil(LONGEST * rate / RATE))]
    if rate != RATE:
        common = gcd(rate, RATE)
        clip = resample_poly(clip, RATE // common, rate // common)
    return clip[:LONGEST]
