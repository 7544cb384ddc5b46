"""How good a codec is on speech it never met, beside the codec that needs no training: the same utterances, rate and run."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from voxkit import files
from voxkit.audio.io import resample, write_audio
from voxkit.batch import Padded, audio_batch
from voxkit.codecs.baseline import KMeansCodec
from voxkit.codecs.contract import Codec
from voxkit.codecs.mel_codec import HEADS, MelCodec
from voxkit.codecs.tokenizer import load_codec
from voxkit.codecs.usage import book_counts, book_entropy
from voxkit.data.reader import load_samples
from voxkit.data.sampler import text_of
from voxkit.data.sessions import speaker_of
from voxkit.data.sets import read_sets
from voxkit.eval.intervals import mean_interval
from voxkit.eval.normalize import WHISPER
from voxkit.eval.wer import score
from voxkit.infer.audio_quality import load_measures
from voxkit.infer.recognizer import Recognizer
from voxkit.rate import RATE

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CodecJob:
    """Attributes:
    codec: what `load_codec` takes.
    sets, data_dir: prepared sets to score on.
    utterances: of each speaker, those nearest to `seconds` long; 0 = all.
    seconds: what utterances should be about as long as.
    measures: names of voxkit.infer.audio_quality.MEASURES.
    baseline: prepared set that the k-means books are fitted on; empty: no baseline. baseline_minutes: how much of it.
    whisper: folder or name of a Whisper whose error rate on the decoded speech is taken; empty: none.
    out: JSON; audio: folder for the decoded files.
    """

    codec: str
    sets: tuple[str, ...]
    data_dir: str = "data"
    utterances: int = 2
    seconds: float = 6.0
    measures: tuple[str, ...] = ("pesq", "stoi", "si_sdr", "mel")
    baseline: str = ""
    baseline_minutes: float = 12.0
    whisper: str = ""
    out: str = ""
    audio: str = ""
    seed: int = 0


@dataclass
class Scored:
    """Of one way to code and decode: id → measure → value; perplexity of each book; words wrong and said, where a recognizer heard it."""

    name: str
    values: dict[str, dict[str, float]] = field(default_factory=dict)
    speakers: dict[str, str] = field(default_factory=dict)
    perplexities: list[float] = field(default_factory=list)
    nominal: float = math.nan
    entropy: float = math.nan
    errors: int = 0
    words: int = 0

    def means(self) -> dict[str, tuple[float, float, float]]:
        """Measure → mean over utterances, and a 95 % interval of it, resampled over speakers."""
        names = next(iter(self.values.values()))
        return {name: mean_interval([one[name] for one in self.values.values()], list(self.speakers.values())) for name in names}

    def figures(self) -> dict[str, Any]:
        """As plain numbers."""
        return {"means": self.means(), "kbit_per_second": self.nominal, "kbit_per_second_by_entropy": self.entropy,
                "perplexities": self.perplexities, "wer": self.errors / self.words if self.words else None, "values": self.values}


def score_codec(job: CodecJob) -> list[Scored]:
    """The codec with each of its heads, then the baseline, then the baseline without quantizer.

    Raises:
        ValueError: no such codec, sets or measures. MissingPackage: what a measure needs.
    """
    measures = load_measures(job.measures)
    codec = load_codec(job.codec)
    cuts = _chosen(list(read_sets(job.data_dir, list(job.sets))), job)
    recognizer = Recognizer.from_pretrained(job.whisper, language="en") if job.whisper else None
    found = []
    for name, system, head in _systems(codec, job):
        scored = Scored(name)
        counts = torch.zeros(system.codebooks, system.size)
        texts: dict[str, str] = {}
        for cut in cuts:
            reference = torch.from_numpy(load_samples(cut))
            wave = Padded.of([resample(reference, RATE, system.sample_rate)])
            heard, codes = _there_and_back(system, head, wave)
            if codes is not None:
                counts += book_counts(codes.values, codes.lengths, system.size)
            heard = resample(heard, system.sample_rate, RATE)[:len(reference)]
            scored.values[cut.id] = {key: measure(heard, reference) for key, measure in measures.items()}
            scored.speakers[cut.id] = speaker_of(cut)
            if recognizer is not None:
                texts[cut.id] = recognizer.recognize(audio_batch(heard, cut.id))[0].text
            if job.audio:
                write_audio(Path(job.audio) / files.file_name(name) / f"{files.file_name(cut.id)}.wav", heard)
        if head != "none":
            bits = book_entropy(counts)
            scored.perplexities, scored.nominal = (2**bits).tolist(), system.bits_per_second / 1000
            scored.entropy = float(bits.sum()) * system.frame_rate / 1000
        if texts:
            result = score({cut.id: text_of(cut) for cut in cuts}, texts, normalize=WHISPER)
            scored.errors, scored.words = result.errors, result.words
        log.info("%s: %s", name, ", ".join(f"{key} {mean:.3f}" for key, (mean, _, _) in scored.means().items()))
        found.append(scored)
    if job.out:
        files.write_json(job.out, {"job": asdict(job), **{one.name: one.figures() for one in found}})
    return found


def _systems(codec: Codec, job: CodecJob) -> Iterator[tuple[str, Codec, str]]:
    """(name, codec, head): "none" leaves the quantizer out."""
    for head in HEADS if isinstance(codec, MelCodec) else ("own",):
        yield f"codec, {head}", codec, head
    if not job.baseline:
        return
    stack = codec.config.stack if isinstance(codec, MelCodec) else 2
    cuts = list(read_sets(job.data_dir, [job.baseline]))
    random.Random(job.seed).shuffle(cuts)
    chosen, seconds = [], 0.0
    for cut in cuts:
        if seconds < 60 * job.baseline_minutes:
            chosen.append(torch.from_numpy(load_samples(cut)))
            seconds += cut.duration
    torch.manual_seed(job.seed)
    baseline = KMeansCodec(stack, codec.codebooks, codec.size).fit(Padded.of(chosen))
    yield "k-means RVQ, Griffin-Lim", baseline, "own"
    yield "no quantizer, Griffin-Lim", baseline, "none"


def _there_and_back(codec: Codec, head: str, wave: Padded) -> tuple[Tensor, Padded | None]:
    if head == "none":
        assert isinstance(codec, KMeansCodec)
        return codec.without_quantizer(wave).values[0], None
    codes = codec.encode(wave)
    heard = codec.decode(codes, head) if isinstance(codec, MelCodec) else codec.decode(codes)
    return heard.values[0], codes


def _chosen(cuts: list[Any], job: CodecJob) -> list[Any]:
    if not job.utterances:
        return cuts
    speakers: dict[str, list[Any]] = {}
    for cut in cuts:
        speakers.setdefault(speaker_of(cut), []).append(cut)
    return [cut for said in speakers.values() for cut in sorted(said, key=lambda cut: abs(cut.duration - job.seconds))[:job.utterances]]
