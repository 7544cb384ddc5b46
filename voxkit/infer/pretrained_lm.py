"""A pretrained causal language model over text, to rank hypotheses anew: any of Hugging Face's, whatever its tokenizer."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from voxkit.hub import is_folder, reading
from voxkit.masks import lengths_to_mask
from voxkit.optional import require
from voxkit.precision import resolve

log = logging.getLogger(__name__)

_LOGITS = 2 ** 26  # numbers in the largest tensor, of logits: 256 MB
_ROWS = 4  # of them at a time, which a CPU's cache holds
_TOKENS = 4096  # of a batch, padding among them
_PLACES = 512  # of a tree: attention grows with their square
_REMEMBERED = 200_000


class PretrainedLM:
    """Log-probabilities of texts.

    Hypotheses of one utterance begin alike. Each beginning goes through the model once: all of them are one row, a tree, in which a token
    sees those that it continues and has its depth for its position (SpecInfer, Miao et al. 2024). Models that do not take such a row,
    and texts longer than a sliding window of attention, go in batches of whole texts.

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
        self.start, self.config = start, model.config.get_text_config()
        self._check_head()
        self.tree = self._takes_trees()
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
        longest, limit = max(map(len, ids), default=0), getattr(self.config, "max_position_embeddings", None)
        if limit and longest > limit:
            raise ValueError(f"--rescore-lm {self.folder}: a hypothesis has {longest} of its tokens, and it takes {limit}; choose a model "
                             "of longer texts, or recognize shorter audio")
        window = getattr(self.config, "sliding_window", None) or longest + 1
        alike = [self.tree and len(row) <= window for row in ids]
        for as_tree in (True, False):
            chosen = [i for i, tree in enumerate(alike) if tree == as_tree]
            for batch in _batches([ids[i] for i in chosen], as_tree):
                values = self._batch([ids[chosen[i]] for i in batch], as_tree)
                self.known.update(zip((new[chosen[i]] for i in batch), values))
        return [self.known[p] if (p := plain[text]) else 0.0 for text in texts]

    def _batch(self, ids: list[list[int]], as_tree: bool) -> list[float]:
        """Token ids of several texts, `start` first → their log-probabilities. What follows a beginning that several share is computed
        once: the distribution over a large vocabulary costs more than the layers of a small model."""
        tree = _Tree(ids)
        if not tree.asked:
            return [0.0] * len(ids)
        if as_tree:
            states = self._tree_states(tree)
        else:
            row, position = torch.tensor(tree.first, device=self.device).T
            states = self.states(ids)[row, position]
        of, token = torch.tensor(tree.asked, device=self.device).T
        logits, sums = states.new_zeros(len(of), dtype=torch.float32), []
        size = max(1, _LOGITS // self.config.vocab_size)
        for low in range(0, len(states), size):
            block = self.logits(states[low:low + size])
            few = block.split(_ROWS if block.device.type == "cpu" else size)
            sums += [rows.float().logsumexp(-1) for rows in few]
            here = (of >= low) & (of < low + size)
            logits[here] = block[of[here] - low, token[here]].float()
        values = (logits - torch.cat(sums)[of]).split([len(row) - 1 for row in ids])
        return [float(v.sum()) for v in values]

    def _tree_states(self, tree: _Tree) -> Tensor:
        """What the head reads of every place of a tree: [N, D]."""
        sees = torch.eye(len(tree.tokens), dtype=torch.bool)
        for place, parent in enumerate(tree.parents):
            if parent >= 0:
                sees[place] |= sees[parent]
        dtype = self.model.dtype  # not truth values, which some models would add to their scores
        mask = torch.zeros(sees.shape, dtype=dtype).masked_fill(~sees, torch.finfo(dtype).min).to(self.device)
        tokens, depths = torch.tensor([tree.tokens, tree.depths], device=self.device)
        return self.model.base_model(input_ids=tokens[None], attention_mask=mask[None, None], position_ids=depths[None],
                                     use_cache=False).last_hidden_state[0]

    def states(self, ids: list[list[int]]) -> Tensor:
        """What the head reads of whole texts: [N, U, D]."""
        lengths = torch.tensor([len(row) for row in ids])
        tokens = torch.full((len(ids), int(lengths.max())), self.start)
        for row, of_one in zip(tokens, ids):
            row[:len(of_one)] = torch.tensor(of_one)
        valid = lengths_to_mask(lengths).to(self.device).long()
        return self.model.base_model(input_ids=tokens.to(self.device), attention_mask=valid, use_cache=False).last_hidden_state

    def logits(self, states: Tensor, tokens: Tensor | None = None) -> Tensor:
        """States [N, D] → logits [N, V], as the model's own forward makes them of its last layer, or of some tokens alone."""
        head = self.model.get_output_embeddings()
        if tokens is None:
            logits = head(states)
        else:
            bias = getattr(head, "bias", None)
            logits = F.linear(states, head.weight[tokens], None if bias is None else bias[tokens])
        cap = getattr(self.config, "final_logit_softcapping", None)
        return cap * (logits / cap).tanh() if cap else logits

    @torch.inference_mode()
    def _check_head(self) -> None:
        """
        Raises:
            ValueError: the model makes logits in a way that `logits` does not know.
        """
        ids = [self.start, *range(min(8, self.config.vocab_size))]
        expected = self.model(input_ids=torch.tensor([ids], device=self.device), use_cache=False).logits[0].float()
        found = self.logits(self.states([ids])[0]).float()
        if not torch.allclose(found, expected, atol=1e-2 + 1e-2 * float(expected.abs().max())):
            raise ValueError(f"{self.folder}: {type(self.model).__name__} scales its logits in a way of its own; choose a model of another "
                             "kind")

    @torch.inference_mode()
    def _takes_trees(self) -> bool:
        """Whether the model gives in a tree what it gives text by text; that it does not is said."""
        a, b, c = (min(token, self.config.vocab_size - 1) for token in (3, 4, 5))
        ids = [[self.start, a, b, c, a], [self.start, b, a, b, c], [self.start, a, c, c, b]]
        tree = _Tree(ids)
        row, position = torch.tensor(tree.first, device=self.device).T
        expected = self.logits(self.states(ids)[row, position]).float()
        try:
            found = self.logits(self._tree_states(tree)).float()
        except (TypeError, ValueError, RuntimeError, IndexError) as error:  # what models say of arguments or shapes that they do not know
            found, why = torch.full_like(expected, torch.nan), f": {error}"
        else:
            why = ""
        same = torch.allclose(found, expected, atol=1e-2 + 1e-2 * float(expected.abs().max()))
        if not same:
            log.warning("%s: %s takes no tree of beginnings, so that every hypothesis goes through it as a whole, which takes longer%s",
                        self.folder, type(self.model).__name__, why)
        return same


class _Tree:
    """The beginnings of several texts, each once.

    Attributes:
        tokens, parents, depths: [N] of every beginning its last token, the beginning before it (-1: none), its length less one.
        first: [N] a text and a position in it where the beginning ends.
        asked: of every token of every text but the first, the beginning before it, and itself.
    """

    def __init__(self, ids: Sequence[Sequence[int]]) -> None:
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.depths: list[int] = []
        self.first: list[tuple[int, int]] = []
        self.asked: list[tuple[int, int]] = []
        places: dict[tuple[int, int], int] = {}
        for n, row in enumerate(ids):
            at = -1
            for depth, (token, following) in enumerate(zip(row, row[1:])):
                parent, at = at, places.setdefault((at, token), len(places))
                if at == len(self.tokens):
                    self.tokens.append(token)
                    self.parents.append(parent)
                    self.depths.append(depth)
                    self.first.append((n, depth))
                self.asked.append((at, following))


def _batches(ids: Sequence[Sequence[int]], as_tree: bool) -> Iterator[list[int]]:
    """Indices of texts that go through the model together: those that begin alike side by side; of whole texts those of one length."""
    order = sorted(range(len(ids)), key=lambda i: ids[i] if as_tree else (len(ids[i]), ids[i]))
    batch: list[int] = []
    size, before = 0, ()
    for i in order:
        row = ids[i]
        if as_tree:
            shared = next((n for n, (a, b) in enumerate(zip(before, row)) if a != b), min(len(before), len(row)))
            more = size + len(row) - shared > _PLACES
            size += len(row) - shared
        else:
            more = (len(batch) + 1) * len(row) > _TOKENS  # the longest so far
        if batch and more:
            yield batch
            batch, size = [], len(row)
        batch.append(i)
        before = row
    if batch:
        yield batch
