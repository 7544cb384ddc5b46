"""Audio out of a generator over codes, buffer by buffer, from a state that is a value.

    generator = AudioGenerator.load("exp/lact_audio")
    state = generator.start(prompt=codes, seeds=[1, 2])             # codes [T, Q] of an AudioTokenizer, or none
    for audio, state in generator.stream(state, frames=500, buffer=25, options=SamplingOptions(top_k=50)):
        ...                                                         # [2, samples] that are complete; the state can be kept and taken up

What is streamed is, sample by sample, what one buffer of everything is. The codec has to be causal for that; with one that is not,
`codes` gives the codes, which are decoded when they are all there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from voxkit import files
from voxkit.codecs.mel_codec import MelCodec
from voxkit.codecs.tokenizer import AudioTokenizer
from voxkit.infer.checkpoint import load_checkpoint
from voxkit.infer.code_sampling import SamplingOptions, draw, uniform
from voxkit.models.lact_audio import LaCTAudioGenerator, State

PLAIN = SamplingOptions()


@dataclass(frozen=True)
class GeneratorState:
    """Where a generation stands, of sequences side by side.

    Attributes:
        seeds: of each sequence; frame: how many frames there are, those of the prompt among them.
        network: the generator's state; codec: the decoder's, empty where the codec does not stream.
        recent: [B, W, Q] the last codes, for the repetition window.
    """

    seeds: tuple[int, ...]
    frame: int
    network: State
    codec: tuple[Tensor, ...]
    recent: Tensor

    @property
    def bytes(self) -> int:
        """What it takes in memory."""
        return sum(x.numel() * x.element_size() for x in (*self.network, *self.codec, self.recent))

    def save(self, path: str | os.PathLike, fingerprint: str) -> None:
        """Write it as safetensors; `fingerprint`: of the generator that it belongs to."""
        about = {"seeds": json.dumps(self.seeds), "frame": str(self.frame), "network": str(len(self.network)), "model": fingerprint}
        tensors = {f"{n:05d}": x.detach().cpu().clone().contiguous() for n, x in enumerate((*self.network, *self.codec, self.recent))}
        with files.writing(path, "wb") as file:
            file.write(save(tensors, about))

    @classmethod
    def load(cls, path: str | os.PathLike, fingerprint: str, device: torch.device | str = "cpu") -> GeneratorState:
        """Read it again.

        Raises:
            ValueError: it is another generator's.
        """
        with safe_open(path, "pt", device=str(device)) as file:
            about = file.metadata() or {}
            if about.get("model") != fingerprint:
                raise ValueError(f"{path}: a state of another generator ({about.get('model')}; this one is {fingerprint}), which means "
                                 "nothing here")
            tensors = [file.get_tensor(name) for name in sorted(file.keys())]
        count = int(about["network"])
        return cls(tuple(json.loads(about["seeds"])), int(about["frame"]), tuple(tensors[:count]), tuple(tensors[count:-1]), tensors[-1])


class AudioGenerator:
    """A trained generator and its codec.

    Args:
        model: the generator; tokenizer: the codec it was trained over; fingerprint: of the checkpoint, for states that are kept.
    """

    def __init__(self, model: LaCTAudioGenerator, tokenizer: AudioTokenizer, device: torch.device | str = "cpu",
                 fingerprint: str = "") -> None:
        self.model, self.tokenizer, self.device = model.to(device).eval(), tokenizer.to(device), torch.device(device)
        self.fingerprint = fingerprint
        codec = tokenizer.codec
        self.codec = codec if isinstance(codec, MelCodec) and codec.config.causal else None

    @classmethod
    def load(cls, path: str | os.PathLike, device: torch.device | str = "cpu") -> AudioGenerator:
        """Of a checkpoint or run of system lact_audio.

        Raises:
            ValueError: another system.
        """
        loaded = load_checkpoint(path, device)
        if not isinstance(loaded.model, LaCTAudioGenerator):
            raise ValueError(f"{path} is of system {loaded.setup.config.system} and generates no audio; give a run of system lact_audio")
        weights = next(Path(loaded.path).glob("model*.safetensors"))
        return cls(loaded.model, loaded.vocabulary, device, files.sha256(weights)[:16])

    @torch.inference_mode()
    def start(self, prompt: Tensor | None = None, seeds: Sequence[int] = (0,)) -> GeneratorState:
        """The state that a generation begins with.

        Args:
            prompt: codes [T, Q'] that all sequences go on from, Q' at least the generator's books; or [B, T, Q'], one for each.
            seeds: one for each sequence.

        Raises:
            ValueError: a prompt of fewer books or another number of sequences.
        """
        model, batch = self.model, len(seeds)
        state, recent = model.init_state(batch, self.device), torch.zeros(batch, 0, model.codebooks, dtype=torch.long, device=self.device)
        codec = self.codec.init_decoder(batch) if self.codec is not None else ()
        frame = 0
        if prompt is not None and prompt.shape[-2]:
            if prompt.shape[-1] < model.codebooks or prompt.ndim == 3 and len(prompt) != batch:
                raise ValueError(f"a prompt of shape {list(prompt.shape)}: this generator goes on from codes [frames, {model.codebooks}] "
                                 f"or [{batch}, frames, {model.codebooks}]")
            recent = prompt[..., :model.codebooks].long().to(self.device).expand(batch, -1, -1)
            for piece in recent.split(model.config.segment, 1):
                state = model.listen(piece, state)
            if self.codec is not None:  # the first buffer goes on from the prompt's sound, which is not given out again
                _, codec = self.codec.stream_decode(recent, codec)
            frame = recent.shape[1]
        return GeneratorState(tuple(seeds), frame, tuple(x.clone() for x in state), codec, recent)

    @torch.inference_mode()
    def codes(self, state: GeneratorState, frames: int, options: SamplingOptions = PLAIN) -> tuple[Tensor, GeneratorState]:
        """The next frames: codes [B, frames, Q], and the state after them (its codec has not moved)."""
        model, network, found = self.model, state.network, []
        window = options.repetition_window
        recent = state.recent[:, state.recent.shape[1] - min(window, state.recent.shape[1]):]
        for frame in range(state.frame, state.frame + frames):
            numbers = uniform(state.seeds, frame, model.codebooks).to(self.device)
            states, after = model.begin_frame(network)
            depth, given, frame_codes = model.depth.init_state(states), states, []
            for q in range(model.codebooks):
                logits, depth = model.depth.step(q, given, depth)
                given = draw(logits.float(), numbers[:, q], options, recent[..., q] if window else None)
                frame_codes.append(given)
            found.append(torch.stack(frame_codes, 1))
            network = model.end_frame(found[-1], after)
            if window:
                recent = torch.cat((recent, found[-1][:, None]), 1)[:, -window:]
        codes = torch.stack(found, 1) if found else state.recent[:, :0]
        return codes, replace(state, frame=state.frame + frames, network=network, recent=recent)

    def stream(self, state: GeneratorState, frames: int, buffer: int = 25, options: SamplingOptions = PLAIN, *,
               final: bool = True) -> Iterator[tuple[Tensor, GeneratorState]]:
        """The next frames as audio: buffers [B, samples], each with the state after it.

        Args:
            buffer: frames of each; what a buffer gives is complete: the last samples of its last frame come with the next.
            final: the audio ends with the last frame. False: it can be gone on with.

        Raises:
            ValueError: a codec that does not stream, or a buffer of no frames.
        """
        if self.codec is None:
            raise ValueError("a codec that is not causal does not stream, and this generator's is none: train it over a causal codec "
                             "(model.codec.causal=true), or take `audio`, which decodes everything at the end")
        if buffer < 1:
            raise ValueError(f"buffer: {buffer} frames; give 1 or more")
        for begin in range(0, frames, buffer):
            count = min(buffer, frames - begin)
            codes, state = self.codes(state, count, options)
            with torch.inference_mode():
                audio, codec = self.codec.stream_decode(codes, state.codec, final=final and begin + count == frames)
            state = replace(state, codec=codec)
            yield audio, state

    def audio(self, state: GeneratorState, frames: int, options: SamplingOptions = PLAIN) -> tuple[Tensor, GeneratorState]:
        """The next frames at once: [B, samples], and the state after them."""
        if self.codec is not None:
            return next(iter(self.stream(state, frames, max(frames, 1), options)))
        codes, state = self.codes(state, frames, options)
        heard = [self.tokenizer.decode(one) for one in codes]
        return torch.stack(heard), state
