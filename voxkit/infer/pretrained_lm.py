"""A pretrained causal language model over text, to rank hypotheses anew: any of Hugging Face's, whatever its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from voxkit.hub import is_folder, reading
from voxkit.optional import require
from voxkit.precision import resolve

_LOGITS = 2 ** 26  # numbers in the largest tensor, a batch's logits: 256 MB
_REMEMBERED = 200_000


class PretrainedLM:
    """Log-probabilities of texts.

    The text is scored as running text without a special end. One that is all upper case, as LibriSpeech's is, is scored in lower case:
    models of the web have hardly seen the former.

    Args:
        model: gives logits for token ids; tokenizer: Hugging Face's, of the same folder.
        folder: where both came from, for records.
    """

    def __init__(self, model: Any, tokenizer: Any, folder: Path, device: torch.device | str = "cpu") -> None:
        self.model, self.tokenizer, self.folder, self.device = model.to(device).eval(), tokenizer, folder, torch.device(device)
        start = next((t for t in (tokenizer.bos_token_id, tokenizer.eos_token_id) if t is not None), None)
        if start is None:
            raise ValueError(f"{folder}: its tokenizer has neither a token for the beginning nor one for the end to begin a text with")
        self.start = start
        self.known: dict[str, float] = {}  # lists of one utterance, and tuning, ask for the same texts again and again

    @classmethod
    def load(cls, name: str, device: torch.device | str = "cpu") -> PretrainedLM:
        """From a Hugging Face name or folder, in the float the device is quick in.

        Raises:
            ValueError: no such folder or name, the hub cannot be reached, no causal language model; MissingPackage: transformers.
        """
        transformers = require("transformers", "pretrained", why="--rescore-lm")
        local = is_folder(name)
        with reading("language model", name, local):
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, local_files_only=local)
            model = transformers.AutoModelForCausalLM.from_pretrained(name, local_files_only=local,
                                                                      dtype=resolve("auto", device, "--rescore-lm"))
            folder = Path(name).expanduser() if local else Path(transformers.utils.cached_file(name, "config.json")).parent
        return cls(model, tokenizer, folder, device)

    @torch.inference_mode()
    def score(self, texts: Sequence[str]) -> list[float]:
        """Natural log-probability of each text; 0 of an empty one."""
        plain = {text: " ".join((text.lower() if text.isupper() else text).split()) for text in texts}
        if len(self.known) > _REMEMBERED:
            self.known.clear()
        new = sorted({p for p in plain.values() if p and p not in self.known}, key=len)
        ids = [[self.start, *self.tokenizer(text, add_special_tokens=False).input_ids] for text in new]
        while ids:
            longest = len(ids[-1])
            rows = max(1, _LOGITS // (longest * self.model.config.get_text_config().vocab_size))
            for text, value in zip(new[-rows:], self._batch(ids[-rows:]).tolist()):
                self.known[text] = value
            del new[-rows:], ids[-rows:]
        return [self.known[p] if (p := plain[text]) else 0.0 for text in texts]

    def _batch(self, ids: list[list[int]]) -> Tensor:
        """Token ids of several texts, `start` first → [N]."""
        lengths = torch.tensor([len(row) for row in ids])
        tokens = torch.full((len(ids), int(lengths.max())), self.start)
        for row, of_one in zip(tokens, ids):
            row[:len(of_one)] = torch.tensor(of_one)
        valid = torch.arange(tokens.shape[1])[None, :] < lengths[:, None]
        tokens, valid = tokens.to(self.device), valid.to(self.device)
        logits = self.model(input_ids=tokens, attention_mask=valid.long(), use_cache=False).logits[:, :-1]
        picked = logits.gather(2, tokens[:, 1:, None])[..., 0].float() - logits.float().logsumexp(-1)
        return picked.masked_fill(~valid[:, 1:], 0.0).sum(1)
