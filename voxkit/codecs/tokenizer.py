"""AudioTokenizer: a codec for audio as people have it, and what a system over codes is given as its tokenizer.

    tokenizer = AudioTokenizer.load("exp/codec_head")        # a trained codec, a folder of one, a pretrained one by name or folder
    codes = tokenizer.encode(samples, 48_000)                # [S] or [S, channels] → [T, Q]
    samples = tokenizer.decode(codes)                        # at tokenizer.codec.sample_rate

Defined for any audio: channels are averaged, other rates resampled, samples beyond ±1 clipped as a sound card clips them. Silence and
clips shorter than a frame have codes like everything else. Audio that holds NaN or an infinity, and no audio at all, is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from voxkit import config as configuration
from voxkit import files
from voxkit.audio.io import resample
from voxkit.batch import Padded
from voxkit.checkpoint.loading import find_checkpoint
from voxkit.checkpoint.weights import read_weights
from voxkit.codecs.contract import Codec
from voxkit.codecs.mel_codec import MelCodec, MelCodecConfig
from voxkit.codecs.pretrained import PretrainedCodec
from voxkit.codecs.tones import ToneCodec

CODEC = "codec.json"  # beside codec.safetensors: a codec as a tokenizer


def load_codec(name: str | os.PathLike) -> Codec:
    """A codec in eval mode.

    Args:
        name: a folder that `AudioTokenizer.save` wrote (a checkpoint of a system over codes is one); a run or checkpoint of system codec;
            a folder or Hugging Face name of a pretrained codec (DAC, EnCodec, Mimi); `tones`, the codec of toy pieces.

    Raises:
        ValueError: none of these, or a codec that is not the one it was.
    """
    path = Path(name)
    if os.fspath(name) == "tones":
        return ToneCodec()
    if (path / CODEC).is_file():
        about = json.loads(files.read_text(path / CODEC))
        if about["kind"] == "pretrained":
            codec = PretrainedCodec(about["name"])
            if codec.content() != about["fingerprint"]:
                raise ValueError(f"{path}: {about['name']} is another codec here (content {codec.content()}) than there "
                                 f"({about['fingerprint']}): its codes would mean other sounds; put back the one of training")
            return codec
        if about["kind"] == "tones":
            return ToneCodec()
        made = MelCodec(configuration.structure(MelCodecConfig, about["config"], str(path / CODEC)))
        made.load_state_dict(load_file(path / "codec.safetensors"))
        return made.eval()
    if (path / "config.json").is_file() or not (path.exists() or path.parent.is_dir()):
        return PretrainedCodec(name).eval()
    checkpoint = find_checkpoint(path)
    found = configuration.load_plain(checkpoint / "config.yaml")
    if found.get("system") != "codec":
        raise ValueError(f"{name} is of system {found.get('system')} and no codec; `voxkit train` with system: codec makes one")
    made = MelCodec(configuration.structure(MelCodecConfig, found.model.codec, f"{checkpoint}/config.yaml"))
    weights = {key.removeprefix("codec."): value for key, value in read_weights(checkpoint, "auto").items()}
    made.load_state_dict(weights)
    return made.eval()


class AudioTokenizer:
    """Audio ↔ codes; fills the place of a vocabulary in systems over codes.

    Args:
        codec: in eval mode.

    Attributes:
        size: values of each code; codebooks: codes of each frame.
    """

    blank = bos = eos = unk = None
    specials: frozenset[int] = frozenset()

    def __init__(self, codec: Codec) -> None:
        self.codec, self.size, self.codebooks = codec, codec.size, codec.codebooks

    @classmethod
    def load(cls, name: str | os.PathLike) -> AudioTokenizer:
        """`load_codec` as a tokenizer; errors as there."""
        return cls(load_codec(name))

    def to(self, device: torch.device | str) -> AudioTokenizer:
        """The same on a device."""
        self.codec.to(device)
        return self

    def encode(self, samples: Any, rate: int) -> Tensor:
        """Samples [S] or [S, channels], array or tensor, at any rate → codes [T, Q].

        Raises:
            ValueError: no audio, or a sample that is no number.
        """
        wave = clean(samples, rate, self.codec.sample_rate)
        device = next(iter((*self.codec.parameters(), *self.codec.buffers()))).device
        return self.codec.encode(Padded.of([wave.to(device)])).values[0]

    def decode(self, codes: Tensor, head: str | None = None) -> Tensor:
        """Codes [T, q] of the first q books → samples [S].

        Args:
            head: of a MelCodec, as of its `decode`; None: as its configuration says.

        Raises:
            ValueError: an unknown head, or one where the codec has none to choose.
        """
        padded = Padded.of([codes])
        if head is None:
            return self.codec.decode(padded).values[0]
        if not isinstance(self.codec, MelCodec):
            raise ValueError(f"head: {head!r}: a {type(self.codec).__name__} decodes in one way only; leave it out")
        return self.codec.decode(padded, head).values[0]

    def fingerprint(self) -> str:
        """64 bits of a hash over sizes and weights: codes of two tokenizers with the same one mean the same."""
        if isinstance(self.codec, PretrainedCodec):
            return self.codec.content()[:16]
        digest = hashlib.sha256(json.dumps(self._about(), sort_keys=True).encode())
        for name, value in sorted(self._state().items()):
            digest.update(name.encode() + value.reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    def save(self, path: str | os.PathLike) -> Path:
        """Write it into a folder → codec.json there; of a pretrained codec its name and what its weights are."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(self.codec, MelCodec):
            with files.writing(folder / "codec.safetensors", "wb") as file:
                file.write(save(self._state()))
        files.write_json(folder / CODEC, self._about())
        return folder / CODEC

    def _state(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu().contiguous() for name, value in self.codec.state_dict().items()}

    def _about(self) -> dict[str, Any]:
        if isinstance(self.codec, PretrainedCodec):
            return {"kind": "pretrained", "name": self.codec.source.folder or self.codec.source.name, "fingerprint": self.codec.content()}
        if isinstance(self.codec, ToneCodec):
            return {"kind": "tones"}
        if not isinstance(self.codec, MelCodec):
            raise ValueError(f"a {type(self.codec).__name__} cannot be kept: fit it again, or train a codec")
        return {"kind": "mel", "config": asdict(self.codec.config)}


def clean(samples: Any, rate: int, to: int) -> Tensor:
    """Samples [S] or [S, channels] at `rate` → one channel [S'] at `to`, float32 in [-1, 1].

    Raises:
        ValueError: no audio, or a sample that is no number.
    """
    wave = torch.as_tensor(samples)
    if not wave.is_floating_point():
        wave = wave.float() / (torch.iinfo(wave.dtype).max + 1)
    wave = wave.float()
    if wave.ndim == 2:
        wave = wave.mean(1)
    if wave.ndim != 1 or not len(wave):
        raise ValueError(f"audio of shape {list(torch.as_tensor(samples).shape)}: a codec takes samples [S] or [S, channels], at least one")
    if not bool(wave.isfinite().all()):
        raise ValueError(f"sample {int((~wave.isfinite()).nonzero()[0])} of the audio is no number; mend the audio")
    return (resample(wave, rate, to) if rate != to else wave).clamp(-1, 1)
