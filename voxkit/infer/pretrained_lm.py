"""A pretrained causal language model over text, to rank hypotheses anew: any of Hugging Face's, whatever its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from voxkit.hub import is_folder, reading
from voxkit.masks import lengths_to_mask
from voxkit.optional import require
from voxkit.precision import resolve

_LOGITS = 2 ** 26  # numbers in the largest tensor, of logits: 256 MB
_TOKENS = 4096  # of a batch, padding among them
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
        self._check_head()
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
        """Natural log-probability of each text; 0 of an empty one.

        Raises:
            ValueError: a text is longer than the model takes.
        """
        plain = {text: " ".join((text.lower() if text.isupper() else text).split()) for text in texts}
        if len(self.known) > _REMEMBERED:
            self.known.clear()
        new = sorted({p for p in plain.values() if p and p not in self.known})  # those that begin alike side by side
        ids = [[self.start, *self.tokenizer(text, add_special_tokens=False).input_ids] for text in new]
        longest, limit = max(map(len, ids), default=0), getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if limit and longest > limit:
            raise ValueError(f"--rescore-lm {self.folder}: a hypothesis has {longest} of its tokens, and it takes {limit}; choose a model "
                             "of longer texts, or recognise shorter audio")
        while ids:
            rows = max(1, _TOKENS // max(map(len, ids)))
            self.known.update(zip(new[:rows], self._batch(ids[:rows])))
            del new[:rows], ids[:rows]
        return [self.known[p] if (p := plain[text]) else 0.0 for text in texts]

    def _batch(self, ids: list[list[int]]) -> list[float]:
        """Token ids of several texts, `start` first → their log-probabilities. What follows a beginning that several share is computed
        once: the distribution over a large vocabulary costs more than the layers of a small model."""
        beginnings: dict[tuple[int, ...], int] = {}
        places, asked = [], []  # of each beginning, its row and position; of each token, its beginning and itself
        for n, row in enumerate(ids):
            for i in range(len(row) - 1):
                index = beginnings.setdefault(tuple(row[:i + 1]), len(beginnings))
                if index == len(places):
                    places.append((n, i))
                asked.append((index, row[i + 1]))
        if not asked:
            return [0.0] * len(ids)
        states = self._states(ids)
        of, token = torch.tensor(asked, device=self.device).T
        logits, sums = states.new_zeros(len(asked), dtype=torch.float32), []
        size = max(1, _LOGITS // self.model.config.get_text_config().vocab_size)
        for low in range(0, len(places), size):
            row, position = torch.tensor(places[low:low + size], device=self.device).T
            block = self._head(states[row, position]).float()
            sums.append(block.logsumexp(-1))
            here = (of >= low) & (of < low + size)
            logits[here] = block[of[here] - low, token[here]]
        values = (logits - torch.cat(sums)[of]).split([len(row) - 1 for row in ids])
        return [float(v.sum()) for v in values]

    def _states(self, ids: list[list[int]]) -> Tensor:
        """What the head reads: [N, U, D]."""
        lengths = torch.tensor([len(row) for row in ids])
        tokens = torch.full((len(ids), int(lengths.max())), self.start)
        for row, of_one in zip(tokens, ids):
            row[:len(of_one)] = torch.tensor(of_one)
        valid = lengths_to_mask(lengths).to(self.device).long()
        return self.model.base_model(input_ids=tokens.to(self.device), attention_mask=valid, use_cache=False).last_hidden_state

    def _head(self, states: Tensor) -> Tensor:
        """States [N, D] → logits [N, V], as the model's own forward makes them of its last layer."""
        logits = self.model.get_output_embeddings()(states)
        cap = getattr(self.model.config.get_text_config(), "final_logit_softcapping", None)
        return cap * (logits / cap).tanh() if cap else logits

    @torch.inference_mode()
    def _check_head(self) -> None:
        """
        Raises:
            ValueError: the model makes logits in a way that `_head` does not know.
        """
        ids = [self.start, *range(min(8, self.model.config.get_text_config().vocab_size))]
        expected = self.model(input_ids=torch.tensor([ids], device=self.device), use_cache=False).logits[0].float()
        found = self._head(self._states([ids])[0]).float()
        if not torch.allclose(found, expected, atol=1e-2 + 1e-2 * float(expected.abs().max())):
            raise ValueError(f"{self.folder}: {type(self.model).__name__} scales its logits in a way of its own; choose a model of another "
                             "kind")
