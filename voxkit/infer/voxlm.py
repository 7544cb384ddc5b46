"""VoxLM as people use it: audio in, text with word times and confidences out, told what to do in words.

    from voxkit import VoxLM
    model = VoxLM.from_pretrained("exp/phase2")
    print(model.transcribe("order.wav", instruction="Transcribe the speech.", phrases=["zerg", "creep"])["text"])
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from voxkit import config as configuration
from voxkit.audio.io import read_audio
from voxkit.batch import Batch, Padded
from voxkit.checkpoint.external import left_out, references
from voxkit.checkpoint.format import checkpoint_state, write_state
from voxkit.decoders.llm_config import LLMConfig
from voxkit.hub import hub_options, locate, reading
from voxkit.hypothesis import Hypothesis, Word
from voxkit.infer.checkpoint import load_checkpoint
from voxkit.infer.recognizer import Recognizer
from voxkit.models import voxlm as network
from voxkit.models.voxlm_variants import DEFAULT, get_config
from voxkit.rate import RATE
from voxkit.run_config import RunConfig, Setup
from voxkit.search.options import SearchOptions
from voxkit.text.huggingface import HuggingFaceVocabulary
from voxkit.text.llm_vocabulary import LLMVocabulary
from voxkit.text.prompt import Request

_LONGEST = 30.0  # seconds that go through the model at once
_SHORTEST = 0.1  # shorter audio is filled up with silence
_TOGETHER = 8  # utterances of a batch
Audio = str | os.PathLike | Tensor


class VoxLM:
    """An audio encoder and a language model that transcribe.

    Args:
        config: a configuration, or the name of a variant (`get_config`). Fresh: what is not pretrained is random, so that it must be
            trained (`voxkit train`) before it says anything.
        vocabulary: tokens that it may say; None: all of the language model's.
        device: where it runs.

    Attributes:
        network: the `voxkit.models.voxlm.VoxLM`; vocabulary; recognizer: for every other search.

    Raises:
        ValueError: an encoder or a language model that is not there or does not fit.
    """

    def __init__(self, config: network.VoxLMConfig | str = DEFAULT, vocabulary: LLMVocabulary | None = None,
                 device: torch.device | str = "cpu") -> None:
        config = get_config(config) if isinstance(config, str) else config
        vocabulary = vocabulary or whole_vocabulary(config.llm)
        self._use(network.VoxLM(config, vocabulary), vocabulary, Setup(RunConfig(system="voxlm"), config), 0, device)

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike, device: torch.device | str = "cpu", overrides: Sequence[str] = ()) -> VoxLM:
        """What `save_pretrained` or `voxkit train` wrote: a folder, a checkpoint, a run.

        Args:
            overrides: such as `model.llm.name=FOLDER`, where the language model lies elsewhere.

        Raises:
            ValueError: no such folder, another system, or an encoder or language model that is not the one of training.
        """
        loaded = load_checkpoint(path, "cpu", overrides)
        if not isinstance(loaded.model, network.VoxLM):
            raise ValueError(f"{path}: a {loaded.setup.config.system}, no VoxLM; voxkit.infer.recognizer.Recognizer loads it")
        self = cls.__new__(cls)
        self._use(loaded.model, loaded.vocabulary, loaded.setup, int(loaded.meta.get("step", 0)), device)
        return self

    def _use(self, model: network.VoxLM, vocabulary: Any, setup: Setup, step: int, device: torch.device | str) -> None:
        self.network, self.vocabulary, self._setup, self._step = model.to(device).eval(), vocabulary, setup, step
        self._references = references(model)  # of the weights as they came: LoRA is added in below
        model.llm.merge()
        self.recognizer = Recognizer(model, vocabulary, device)

    @property
    def config(self) -> network.VoxLMConfig:
        """What it is made of."""
        return self.network.config

    def transcribe(self, audio: Audio | Sequence[Audio], instruction: str | None = None, *, phrases: Sequence[str] = (), previous: str = "",
                   language: str | None = None, on_text: Callable[[int, str], None] | None = None,
                   options: SearchOptions | None = None) -> Any:
        """Audio files or waveforms [S] at 16 kHz → `{"text", "words": [{"word", "start", "end", "confidence"}], "audio_duration"}`.

        Audio of more than 30 s goes in the pieces that somebody speaks in, each told what was said before; its times are the recording's.

        Args:
            audio: one, or several, which gives a list.
            instruction, phrases, previous, language: what the language model is told (`Request`); None: as in training.
            on_text: called with the place of an utterance and its text as it grows.
            options: of the search; by default method "generate" with words.

        Raises:
            ValueError: audio that cannot be read; MissingPackage: silero's weights, of long audio.
        """
        several = not isinstance(audio, (str, os.PathLike, Tensor))
        request = Request(instruction, tuple(phrases), previous, language)
        waves = [_wave(one) for one in (audio if several else [audio])]  # type: ignore[union-attr,list-item]
        found: list[Hypothesis | None] = [self._long(wave, request, options) if len(wave) > _LONGEST * RATE else None for wave in waves]
        short = sorted((n for n, one in enumerate(found) if one is None), key=lambda n: len(waves[n]))
        for low in range(0, len(short), _TOGETHER):
            places = short[low:low + _TOGETHER]
            told = None if on_text is None else _teller(places, self.vocabulary, on_text)
            for n, one in zip(places, self._together([waves[n] for n in places], request, options, told)):
                found[n] = one
        answers = [one.to_json() for one in found if one is not None]
        return answers if several else answers[0]

    def _together(self, waves: Sequence[Tensor], request: Request, options: SearchOptions | None,
                  told: Callable[[int, int], None] | None = None) -> list[Hypothesis]:
        options = options or SearchOptions(method="generate", words=True)
        options = SearchOptions(**{**vars(options), "prompt": request if request != Request() else options.prompt, "told": told})
        filled = [torch.nn.functional.pad(wave, (0, max(0, int(_SHORTEST * RATE) - len(wave)))) for wave in waves]
        batch = Batch([str(n) for n in range(len(waves))], audio=Padded.of(filled))
        found = self.recognizer.recognize(batch, options)
        for one, wave in zip(found, waves):
            one.audio_duration = len(wave) / RATE
            one.words = [Word(w.word, min(w.start, one.audio_duration), min(w.end, one.audio_duration), w.confidence) for w in one.words]
        return found

    def _long(self, wave: Tensor, request: Request, options: SearchOptions | None) -> Hypothesis:
        """A recording in the pieces where somebody speaks."""
        from voxkit.runtime.segments import SegmentOptions, speech_segments
        from voxkit.runtime.vad import Vad

        pieces = speech_segments(Vad().probabilities(wave.numpy()), len(wave), SegmentOptions(longest=_LONGEST - 5))
        out = Hypothesis("", audio_duration=len(wave) / RATE)
        for start, end in pieces:
            told = Request(request.instruction, request.phrases, out.text[-400:] or request.previous, request.language)
            carries = self.config.prompt.previous_share > 0  # else it has never read any
            one = self._together([wave[start:end]], told if carries else request, options)[0]
            offset = start / RATE
            out.text = f"{out.text} {one.text}".strip()
            out.words += [Word(w.word, w.start + offset, w.end + offset, w.confidence) for w in one.words]
            out.tokens += one.tokens
            out.token_confidences += one.token_confidences
            out.score += one.score
        return out

    def save_pretrained(self, folder: str | os.PathLike) -> Path:
        """Write what was trained (projector, heads, LoRA), the vocabulary and the configuration; never the weights that others publish.
        The folder is a checkpoint: every command takes it. LoRA lies there once more as peft has it, in `adapter`.

        Raises:
            ValueError: the disk is full.
        """
        folder = Path(folder)

        def beside(directory: Path) -> None:
            configuration.save(self._setup.as_mapping(), directory / "config.yaml")
            self.vocabulary.save(directory)
            if self.config.llm.learns == "lora":
                self.network.llm.save_adapter(directory / "adapter")

        meta = {"step": self._step, "tokenizer": self.vocabulary.fingerprint(), "left_out": sorted(left_out(self.network)),
                "externals": self._references}
        return write_state(folder, checkpoint_state(self.network), meta, save_extra=beside).path

    def save_llm(self, folder: str | os.PathLike) -> Path:
        """Write the language model with LoRA added in, and its tokenizer, as a Hugging Face folder of its own."""
        self.network.llm.save_merged(folder)
        self.vocabulary.base.save(folder)
        return Path(folder)


def whole_vocabulary(config: LLMConfig) -> LLMVocabulary:
    """All tokens of a language model, from its folder or the hub.

    Raises:
        ValueError: no such folder or name, or a tokenizer that cannot be used.
    """
    source = locate(config.name)
    folder = source.folder
    if not folder:
        from transformers.utils import cached_file

        with reading("tokenizer", source):
            named = hub_options(source, config.revision)
            named.pop("trust_remote_code", None)
            for name in ("tokenizer_config.json", "chat_template.jinja"):
                cached_file(config.name, name, _raise_exceptions_for_missing_entries=False, **named)
            folder = str(Path(cached_file(config.name, "tokenizer.json", **named)).parent)
    return LLMVocabulary.whole(HuggingFaceVocabulary.load(folder))


def _wave(audio: Audio) -> Tensor:
    """[S] float32 at 16 kHz."""
    if not isinstance(audio, Tensor):
        return read_audio(audio)[0]
    if audio.dim() != 1 or not audio.is_floating_point() or not bool(audio.isfinite().all()):
        raise ValueError(f"a waveform is one row of finite numbers at 16 kHz; this is {audio.dtype} {list(audio.shape)}")
    return audio.float()


def _teller(places: Sequence[int], vocabulary: Any, on_text: Callable[[int, str], None]) -> Callable[[int, int], None]:
    """Tokens, as they come → texts as they grow; bytes that are no whole character yet wait."""
    said: dict[int, list[int]] = {}

    def told(row: int, token: int) -> None:
        said.setdefault(row, []).append(token)
        text = vocabulary.decode(said[row])
        if not text.endswith("\ufffd"):
            on_text(places[row], text)

    return told
