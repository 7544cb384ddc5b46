"""What a model saw in one utterance, as arrays to look at: attention, CIF weights and fires, words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from voxkit.audio.fbank import Fbank
from voxkit.batch import Batch
from voxkit.hypothesis import Word
from voxkit.infer.recognizer import Recognizer, SearchOptions


@dataclass
class Inspection:
    """One utterance.

    Attributes:
        text: recognized, greedily; tokens: its U pieces (of an autoregressive decoder also the end).
        features: [T, F] at 100 frames/s.
        attention: [layers, H, U, T'] of the decoder over the encoder's frames; None where there is no decoder.
        curve: [T'], label: CIF's weights, or of a CTC model the probability that a frame is no blank.
        fires: seconds where tokens end, by CIF; words: with times.
    """

    text: str
    tokens: list[str]
    features: np.ndarray
    attention: np.ndarray | None
    curve: np.ndarray
    label: str
    fires: list[float]
    words: list[Word]
    seconds_per_frame: float


@torch.inference_mode()
def inspect(recognizer: Recognizer, batch: Batch) -> Inspection:
    """A batch of one utterance, looked into."""
    model, vocabulary = recognizer.model, recognizer.vocabulary
    batch = batch.to(recognizer.device)
    features = batch.features.values if batch.features is not None else Fbank()(batch.audio.values.cpu(), batch.audio.lengths.cpu())[0]
    heard = recognizer.recognize(batch, SearchOptions("greedy", words=True))[0]
    states, lengths = model.encode(batch)[:2]
    pieces, attention, heads = [vocabulary.pieces[t] for t in heard.tokens], None, model.heads
    if heads.parallel is not None:
        guess = heads.parallel.predict(states, lengths)
        curve, label, fires = guess.weights[0], "CIF weight", (guess.times[0] * model.seconds_per_frame).tolist()
        attention = heads.parallel.attention_weights(states, lengths)[:, 0]
    elif heads.ctc is not None:
        curve, label, fires = 1 - heads.ctc(states)[0, :, heads.blank].exp(), "P(no blank)", []
    else:
        raise ValueError(f"a {type(model).__name__} has neither a CTC head nor CIF to look at")
    if heads.decoder is not None:
        tokens = torch.tensor([[heads.decoder.bos, *heard.tokens]], device=states.device)
        attention, pieces = heads.decoder.attention_weights(tokens, states, lengths)[:, 0], [*pieces, "</s>"]
    return Inspection(heard.text, pieces, features[0].float().cpu().numpy(), None if attention is None else attention.cpu().numpy(),
                      curve.cpu().numpy(), label, fires, heard.words, model.seconds_per_frame)
