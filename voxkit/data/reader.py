"""The audio and features of a cut: the one reader that everything uses which is given cuts.

It honors what the cut says (place, channel, speed and other transforms, mixed tracks, Shar archives), decodes files by
`voxkit.audio.decode` and takes audio from nothing but files and memory (`voxkit.data.sources`).
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from voxkit.audio.decode import AudioError, audio_info, decode, mix_down
from voxkit.audio.resample import resample
from voxkit.data.shar import fill, fill_recording
from voxkit.data.sources import check_audio
from voxkit.rate import RATE

_LARGE_KERNEL = 1 << 21  # samples of torchaudio's kernels beyond which ours, that needs none, resamples


def load_samples(cut: Any) -> np.ndarray:
    """[S] float32 of a cut at 16 kHz; the channels of a MultiCut are averaged.

    Raises:
        ValueError: no audio, no samples, some that are not finite, channels that cancel each other, a source that is no file; and
            whatever lhotse raises where a cut and its audio disagree.
    """
    if not _has_audio(cut):
        raise ValueError("comes without audio; where the cuts hold features, set data.input: features")
    cut = _readable(fill(cut if cut.sampling_rate == RATE else cut.resample(RATE)), cut.id)
    use_own_decoder()
    samples = mix_down(cut.load_audio(), cut.id)
    if not samples.size:
        raise AudioError("holds no samples", "empty audio")
    if not np.isfinite(samples).all():
        raise AudioError("holds samples that are NaN or infinite")
    return np.ascontiguousarray(samples, dtype=np.float32)


def load_features(cut: Any) -> np.ndarray:
    """[T, F] float32 of a cut that comes with features.

    Raises:
        ValueError: it has none, or some values are not finite.
    """
    if not cut.has_features:
        raise ValueError("comes without features (data.input is features); set data.input to audio or fbank")
    features = fill(cut).load_features()
    if features is None or not features.size or not np.isfinite(features).all():
        raise ValueError("holds features that are NaN or infinite, or none at all")
    return np.ascontiguousarray(features, dtype=np.float32)


def load_recording(recording: Any) -> np.ndarray:
    """All samples [C, S] float32 of a recording at its own rate, transforms applied, one row for each of its channels.

    Raises:
        AudioError: as `decode`; files of a rate that the recording does not name, channels that are not there.
    """
    recording = fill_recording(recording)
    if recording.transforms:
        return _readable_recording(recording, recording.id).load_audio()
    rows: dict[int, np.ndarray] = {}
    for source in recording.sources:
        check_audio({"type": source.type, "source": source.source}, recording.id)
        samples, rate = decode(source.source)
        if rate != recording.sampling_rate:
            raise AudioError(f"the manifest says {recording.sampling_rate} Hz, the audio {rate} Hz", "wrong rate")
        if max(source.channels) >= len(samples) and len(source.channels) != len(samples):
            raise AudioError(f"the manifest names channels {source.channels}, {_shown(source)} has {len(samples)}", "missing channel")
        for row, channel in enumerate(source.channels):
            rows[channel] = samples[row if len(source.channels) == len(samples) else channel]
    longest = max(map(len, rows.values()))
    return np.stack([np.pad(rows[channel], (0, longest - len(rows[channel]))) for channel in recording.channel_ids or sorted(rows)])


def file_recording(path: Path, id: str) -> Any:
    """The lhotse Recording of a file, with all its channels and the length that it has, not the one that its header may guess.

    Raises:
        AudioError: it cannot be read, or was cut off.
    """
    from lhotse import Recording
    from lhotse.audio import AudioSource

    info = audio_info(path)
    channels = list(range(info.channels))
    return Recording(id=id, sources=[AudioSource("file", channels, str(path))], sampling_rate=info.rate, num_samples=info.frames,
                     duration=info.seconds, channel_ids=channels)


def _shown(source: Any) -> str:
    return str(source.source) if isinstance(source.source, (str, Path)) else f"{len(source.source)} bytes"


def _has_audio(cut: Any) -> bool:
    if hasattr(cut, "tracks"):
        return any(_has_audio(track.cut) for track in cut.tracks)
    return getattr(cut, "recording", None) is not None


def _readable(cut: Any, id: str) -> Any:
    """The cut with sources that were looked at, and transforms that need no gigabytes."""
    from lhotse.utils import fastcopy

    if hasattr(cut, "tracks"):
        return fastcopy(cut, tracks=[fastcopy(track, cut=_readable(track.cut, id)) for track in cut.tracks])
    if getattr(cut, "recording", None) is None:  # padding
        return cut
    recording = _readable_recording(cut.recording, id)
    return cut if recording is cut.recording else fastcopy(cut, recording=recording)


def _readable_recording(recording: Any, id: str) -> Any:
    from lhotse.utils import fastcopy

    use_own_decoder()
    for source in recording.sources:
        check_audio({"type": source.type, "source": source.source}, id)
    if not recording.transforms:
        return recording
    transforms = [_small(transform, recording.sampling_rate) for transform in recording.transforms]
    return fastcopy(recording, transforms=transforms)


def _small(transform: Any, rate: int) -> Any:
    """A transform of lhotse's, or ours in its place where its kernel would be large: 44,101 → 16,000 Hz, or a speed of 0.9123."""
    resample_class, speed_class = _own_transforms()
    spec = transform if isinstance(transform, dict) else transform.to_dict()
    if spec["name"] == "Resample":
        old, new, own = int(spec["kwargs"]["source_sampling_rate"]), int(spec["kwargs"]["target_sampling_rate"]), resample_class
    elif spec["name"] == "Speed":
        old, new, own = round(rate * spec["kwargs"]["factor"]), rate, speed_class
    else:
        return transform
    divisor = math.gcd(old, new)
    return own(**spec["kwargs"]) if old // divisor * (new // divisor) > _LARGE_KERNEL else transform


@cache
def _own_transforms() -> tuple[type, type]:
    from lhotse.augmentation import Resample, Speed

    class BoundedResample(Resample):
        def __call__(self, samples: np.ndarray, *args: Any, **kwargs: Any) -> np.ndarray:
            return resample(samples, self.source_sampling_rate, self.target_sampling_rate)

    class BoundedSpeed(Speed):
        def __call__(self, samples: np.ndarray, sampling_rate: int) -> np.ndarray:
            return resample(samples, round(sampling_rate * self.factor), sampling_rate)

    return BoundedResample, BoundedSpeed


def use_own_decoder() -> None:
    """lhotse asks one backend per process for audio: ours. Its own reads two thirds of an MP3 without a length, runs external programs for
    some formats, and writes to the root logger where a file is damaged, which then prints every line of the log once more."""
    from lhotse.audio import backend

    own = _own_backend()
    if backend.CURRENT_AUDIO_BACKEND is not own:
        backend.set_current_audio_backend(own)


@cache
def _own_backend() -> Any:
    from lhotse.audio.backend import LibsndfileBackend
    from lhotse.audio.backend import LibsndfileCompatibleAudioInfo as Info

    class VoxkitBackend(LibsndfileBackend):
        def read_audio(self, path_or_fd: Any, offset: float = 0.0, duration: float | None = None,
                       force_opus_sampling_rate: int | None = None) -> tuple[np.ndarray, int]:
            return decode(path_or_fd, start=offset, duration=duration, whole=False)

        def info(self, path_or_fd: Any, force_opus_sampling_rate: int | None = None) -> Any:
            found = audio_info(path_or_fd, whole=False)
            return Info(found.channels, found.frames, found.rate, found.seconds)

    return VoxkitBackend()
