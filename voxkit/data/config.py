"""Options of data: what to read, how to batch it, how to change it on the fly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional, Union

from voxkit.data.microphone import MicrophoneConfig
from voxkit.data.session_config import SessionConfig

INPUTS = ("audio", "fbank", "features", "text")


@dataclass
class DataConfig:
    """Attributes:
    data_dir: where `voxkit prepare` wrote; train, dev: names of the sets there, or paths of cuts, or paths or URLs of lhotse Shar
        directories; `name:0.3` is three tenths of one.
    input: what a batch carries: audio, fbank computed in the loader, or the features that the cuts themselves come with; text, of VoxLM:
        the training sets' transcripts (or text files) alone, while dev is heard.
    fbank_bins: of input: fbank; 0 = as many as model.front_end.fbank_bins.
    max_duration: seconds of audio per batch (and process), padding included; auto: the largest that fits, found by trying.
    max_utterances: in a batch; 0 = as many as max_duration allows.
    max_tokens: in a batch of systems that learn from text alone.
    min_seconds, max_seconds: shorter and longer utterances are left out of training, named and counted.
    num_buckets: classes of like duration that batches are drawn from; fewer where the corpus is too small to fill them.
    buffer_size: utterances held in the buckets at a time; sets too large for memory are shuffled by pieces, and within it.
    shuffle, drop_last: of the training batches.
    short_first: the first epoch goes from short to long utterances.
    num_workers: loader processes, one thread each; 0 = none beside the trainer.
    prefetch: batches that each of them prepares ahead.
    frames_per_second: at which CTC scores; an utterance with more tokens than fit there cannot be aligned and is left out. null = the
        model's own, 0 = no check.
    speed_perturb: factors, one drawn per utterance and epoch.
    noise: folder of audio, or lhotse cuts or recordings, mixed in; noise_snr: range in dB; noise_prob: share of utterances.
    rir: folder of impulse responses, or cuts or recordings; rir_prob: share of utterances.
    bpe_dropout: probability that a merge of the tokenizer is left out, drawn anew for every utterance and epoch of training; 0 = always
        the same pieces, 1 = characters (see `Vocabulary.sample`).
    volume: range of gain factors; [1.0, 1.0] = none.
    microphone: what a player's microphone and voice chat do: overload, Opus, push-to-talk cuts.
    max_failures: utterances that may fail to be read in an epoch before it is an error.
    sessions: for systems that carry state from utterance to utterance: how batches are made of sessions.
    """

    data_dir: str = "data"
    train: list[str] = field(default_factory=list)
    dev: list[str] = field(default_factory=list)
    input: str = "audio"
    fbank_bins: int = 0
    max_duration: Union[int, float, str] = 200.0
    max_utterances: int = 0
    max_tokens: int = 1000
    min_seconds: float = 0.1
    max_seconds: float = 30.0
    num_buckets: int = 30
    buffer_size: int = 20000
    shuffle: bool = True
    drop_last: bool = False
    short_first: bool = False
    num_workers: int = 2
    prefetch: int = 2
    frames_per_second: Optional[float] = None
    speed_perturb: list[float] = field(default_factory=lambda: [1.0])
    noise: str = ""
    noise_snr: list[float] = field(default_factory=lambda: [5.0, 20.0])
    noise_prob: float = 0.0
    rir: str = ""
    rir_prob: float = 0.0
    bpe_dropout: float = 0.0
    volume: list[float] = field(default_factory=lambda: [1.0, 1.0])
    microphone: MicrophoneConfig = field(default_factory=MicrophoneConfig)
    max_failures: int = 100
    sessions: SessionConfig = field(default_factory=SessionConfig)

    @property
    def augments(self) -> bool:
        """Whether waveforms are changed on the fly, at whatever speed."""
        return self.noise_prob > 0 or self.rir_prob > 0 or list(self.volume) != [1.0, 1.0] or self.microphone.changes

    def problems(self) -> list[str]:
        found = []
        if self.input not in INPUTS:
            found.append(f"input: {self.input!r} is none of {', '.join(INPUTS)}")
        if self.input == "features" and (self.augments or list(self.speed_perturb) != [1.0]):
            found.append("input: features cannot be changed as audio can; leave out noise, rir, volume, microphone and speed_perturb")
        automatic = self.max_duration == "auto"
        if not automatic and (isinstance(self.max_duration, str) or self.max_duration <= 0):
            found.append(f"max_duration: {self.max_duration!r} is neither seconds above 0 nor auto")
        if not 0 <= self.min_seconds < self.max_seconds:
            found.append(f"min_seconds: {self.min_seconds} is not below max_seconds, {self.max_seconds}")
        for kind in ("noise", "rir"):
            share = getattr(self, f"{kind}_prob")
            if not 0 <= share <= 1:
                found.append(f"{kind}_prob: {share} is not in [0, 1]")
            if share > 0 and not getattr(self, kind):
                found.append(f"{kind}: {kind}_prob is {share} and no {kind} is named; name a folder of audio, or set {kind}_prob to 0")
        if not 0 <= self.bpe_dropout <= 1:
            found.append(f"bpe_dropout: {self.bpe_dropout} is not in [0, 1]")
        if not self.speed_perturb or any(not 0.5 <= factor <= 2 for factor in self.speed_perturb):
            found.append(f"speed_perturb: {self.speed_perturb} should be factors between 0.5 and 2; [1.0] is none")
        for name in ("noise_snr", "volume"):
            if len(getattr(self, name)) != 2 or getattr(self, name)[0] > getattr(self, name)[1]:
                found.append(f"{name}: {getattr(self, name)} should be [low, high]")
        if len(self.volume) == 2 and self.volume[0] <= 0:
            found.append(f"volume: a gain of {self.volume[0]} would silence or invert; gains are above 0")
        for name, least in (("num_workers", 0), ("max_utterances", 0), ("max_tokens", 1), ("max_failures", 0), ("frames_per_second", 0),
                            ("fbank_bins", 0), ("num_buckets", 1), ("buffer_size", 1), ("prefetch", 1)):
            if (getattr(self, name) or 0) < least:
                found.append(f"{name}: {getattr(self, name)} is below {least}")
        return found
