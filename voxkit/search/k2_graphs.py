"""Decoding graphs of k2: H (CTC topology), HL (with a lexicon), HLG (with a word n-gram); 1-best, n-best and whole-lattice rescoring.

The lexicon and the n-gram become FSAs as text here, without k2; composing and searching is k2's (icefall's recipes, same order of steps).
k2 is optional: without it every function that needs it says what to install.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from voxkit.files import read_lines, read_text, write_json, write_text
from voxkit.ops.inference import outside_inference_mode
from voxkit.optional import require
from voxkit.search.hypotheses import CtcHypothesis
from voxkit.search.k2_files import load_fsa, save_fsa
from voxkit.search.ngram import BOS, EOS, UNK, NgramModel

_LN10 = math.log(10)
BACKOFF = "#0"  # the word on back-off arcs of G, so that LG can be made deterministic


@dataclass
class WordTable:
    """Words of a graph by id: 0 is epsilon, the last BACKOFF; `silent`, one more, is the label of "no word here" in rescoring."""

    words: list[str]

    @property
    def silent(self) -> int:
        """Id after the last word's."""
        return len(self.words)

    @classmethod
    def of(cls, words: Iterable[str]) -> WordTable:
        """A table of words, sorted."""
        return cls(["<eps>", *sorted(set(words) - {"<eps>", BACKOFF}), BACKOFF])

    def ids(self) -> dict[str, int]:
        """word → id."""
        return {word: i for i, word in enumerate(self.words)}


def lexicon_text(spellings: Mapping[str, Sequence[int]], table: WordTable, vocab_size: int) -> tuple[str, int]:
    """L as k2 text ("from to label aux score"), tokens in and words out, with disambiguation tokens from vocab_size on.

    A spelling that is another word's too, or begins one, gets #1, #2, ...; token vocab_size is #0, which passes G's back-off through.

    Returns:
        the text and the number of disambiguation tokens.
    """
    ids = table.ids()
    times = Counter(tuple(s) for s in spellings.values())
    prefixes = {tuple(s[:n]) for s in spellings.values() for n in range(1, len(s))}
    used: Counter[tuple[int, ...]] = Counter()
    arcs, state, most = [], 1, 0
    for word, tokens in sorted(spellings.items()):
        if not len(tokens):
            raise ValueError(f"word {word!r} has no tokens: the tokenizer cannot spell it")
        line = list(tokens)
        if times[tuple(tokens)] > 1 or tuple(tokens) in prefixes:
            used[tuple(tokens)] += 1
            most = max(most, used[tuple(tokens)])
            line.append(vocab_size + used[tuple(tokens)])
        at = 0
        for n, token in enumerate(line):
            to = 0 if n + 1 == len(line) else state
            arcs.append((at, to, token, ids[word] if n == 0 else 0))
            if to:
                at, state = to, state + 1
    arcs.append((0, 0, vocab_size, ids[BACKOFF]))
    final = state
    arcs.append((0, final, -1, -1))
    return "".join(f"{a} {b} {t} {w} 0.0\n" for a, b, t, w in sorted(arcs)) + f"{final}\n", most + 1


def grammar_text(model: NgramModel, table: WordTable, loops: int | None = None) -> str:
    """G as k2 text (an acceptor "from to label score", natural log): a state for every context, back-off arcs labeled BACKOFF.

    Words of the model that the table lacks are left out, and its <unk>. With `loops` every state has a free arc of that label to itself.
    """
    ids = table.ids()
    contexts: dict[tuple[str, ...], int] = {(BOS,): 0} if model.order > 1 else {(): 0}
    contexts.setdefault((), len(contexts))
    for grams in model.ngrams[:-1]:
        for gram in grams:
            if EOS not in gram and all(w in ids or w == BOS for w in gram):
                contexts.setdefault(gram, len(contexts))
    final = len(contexts)
    arcs = []
    for n, grams in enumerate(model.ngrams, 1):
        for gram, (p, _) in grams.items():
            start = contexts.get(gram[:-1])
            if start is None or gram[-1] in (BOS, UNK) or (gram[-1] != EOS and gram[-1] not in ids):
                continue
            if gram[-1] == EOS:
                arcs.append((start, final, -1, p * _LN10))
                continue
            target = gram if n < model.order else gram[1:]
            while target not in contexts:
                target = target[1:]
            arcs.append((start, contexts[target], ids[gram[-1]], p * _LN10))
    for context, state in contexts.items():
        if context:
            shorter = context[1:]
            while shorter not in contexts:
                shorter = shorter[1:]
            arcs.append((state, contexts[shorter], ids[BACKOFF], model.ngrams[len(context) - 1].get(context, (0.0, 0.0))[1] * _LN10))
        if loops is not None:
            arcs.append((state, state, loops, 0.0))
    return "".join(f"{a} {b} {w} {s:.6f}\n" for a, b, w, s in sorted(arcs)) + f"{final}\n"


@lru_cache(maxsize=1)
@outside_inference_mode
def ctc_graph(vocab_size: int, device: torch.device | str = "cpu") -> Any:
    """H: the CTC topology over all tokens, as an FsaVec. Its arcs are vocab_size squared, so the last one made is kept."""
    k2 = _k2("the CTC topology")
    return k2.create_fsa_vec([k2.ctc_topo(vocab_size - 1, modified=False, device=device)])


def build_graph(spellings: Mapping[str, Sequence[int]], vocab_size: int, out: str | os.PathLike, lm: NgramModel | None = None,
                rescoring_lm: NgramModel | None = None, tokenizer: str = "") -> Path:
    """HL (no lm) or HLG into a directory: HLG.pt, words.txt, graph.json and, for rescoring, G.pt of a larger model.

    Args:
        spellings: word → token ids.
        lm, rescoring_lm: over words.
        tokenizer: fingerprint of the one that spelled the words.

    Raises:
        ValueError: words that the graph can find and the rescoring model does not know.
    """
    k2 = _k2("decoding graphs")
    table = WordTable.of(spellings)
    if rescoring_lm is not None:
        _check_rescoring(spellings, lm, rescoring_lm)
    text, _ = lexicon_text(spellings, table, vocab_size)
    graph = k2.arc_sort(k2.Fsa.from_str(text, num_aux_labels=1))
    if lm is not None:
        grammar = k2.arc_sort(k2.Fsa.from_str(grammar_text(lm, table), acceptor=True))
        graph = k2.connect(k2.compose(graph, grammar))
    graph = k2.connect(k2.determinize(graph))
    graph.labels = _without(graph.labels, vocab_size)
    if isinstance(graph.aux_labels, k2.RaggedTensor):
        graph.aux_labels = k2.RaggedTensor(graph.aux_labels.shape, _without(graph.aux_labels.values, table.ids()[BACKOFF]))
    else:
        graph.aux_labels = _without(graph.aux_labels, table.ids()[BACKOFF])
    graph = k2.connect(k2.remove_epsilon(graph))
    if isinstance(graph.aux_labels, k2.RaggedTensor):
        graph.aux_labels = graph.aux_labels.remove_values_eq(0)
    graph = k2.connect(k2.compose(k2.ctc_topo(vocab_size - 1, modified=False), k2.arc_sort(graph)))
    graph.lm_scores = graph.scores.clone()
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    save_fsa(k2, k2.create_fsa_vec([graph]), out / "HLG.pt")
    write_text(out / "words.txt", "".join(f"{word}\n" for word in table.words))
    write_json(out / "graph.json", {"vocab_size": vocab_size, "tokenizer": tokenizer})
    (out / "G.pt").unlink(missing_ok=True)
    if rescoring_lm is not None:
        large = k2.Fsa.from_str(grammar_text(rescoring_lm, table, loops=table.silent), acceptor=True)
        labels = large.labels.clone()
        labels[labels == table.ids()[BACKOFF]] = 0
        large.labels = labels
        save_fsa(k2, k2.create_fsa_vec([k2.arc_sort(large)]), out / "G.pt")
    return out


def _without(labels: Tensor, first: int) -> Tensor:
    """Labels with those from `first` on turned into epsilon."""
    return labels.masked_fill(labels >= first, 0)


def _check_rescoring(words: Iterable[str], lm: NgramModel | None, rescoring_lm: NgramModel) -> None:
    found = set(words) & set(lm.vocabulary) if lm is not None else set(words)
    lacking = sorted(found - set(rescoring_lm.vocabulary))
    if lacking:
        raise ValueError(f"the rescoring model lacks {len(lacking)} words that the graph can find, e.g. {lacking[0]!r}: what holds them "
                         "would be lost; train it on the text of the first model too, or give the same --text to both")


@dataclass
class Graph:
    """A loaded directory.

    Attributes:
        fsa: HL or HLG; words: by id; large: G of the larger model, or None.
        vocab_size, tokenizer: of the tokens it is over, and the fingerprint of their tokenizer ("" where nobody gave one).
    """

    fsa: Any
    words: list[str]
    large: Any | None
    vocab_size: int
    tokenizer: str = ""


@outside_inference_mode
def load_graph(path: str | os.PathLike, device: torch.device | str = "cpu") -> Graph:
    """Load what `build_graph` wrote.

    Raises:
        ValueError: no graph there, or none of plain tensors; MissingPackage: no k2.
    """
    k2 = _k2("decoding graphs")
    path = Path(path)
    if not (path / "HLG.pt").is_file() or not (path / "graph.json").is_file():
        raise ValueError(f"{path}: no decoding graph there; `voxkit lm graph` makes one")
    about = json.loads(read_text(path / "graph.json"))
    large = load_fsa(k2, path / "G.pt", device) if (path / "G.pt").is_file() else None
    return Graph(load_fsa(k2, path / "HLG.pt", device), read_lines(path / "words.txt"), large, **about)


@outside_inference_mode
def lattice(fsa: Any, log_probs: Tensor, lengths: Tensor, *, search_beam: float = 20.0, output_beam: float = 8.0,
            max_active: int = 10_000) -> tuple[Any, Tensor]:
    """Paths of a graph over log_probs [B, T, V] with lengths [B] → lattice (the longest utterance first), and the order [B]."""
    k2 = _k2("lattices")
    order = lengths.argsort(descending=True).cpu()
    segments = torch.stack([order, torch.zeros_like(order), lengths.cpu()[order]], 1).to(torch.int32)
    dense = k2.DenseFsaVec(log_probs.float(), segments)
    return k2.intersect_dense_pruned(fsa, dense, search_beam=search_beam, output_beam=output_beam, min_active_states=30,
                                     max_active_states=max_active), order


@outside_inference_mode
def one_best(lattice: Any, order: Tensor) -> list[CtcHypothesis]:
    """The best path of each utterance; `tokens` are the graph's output labels (tokens of H, words of HL and HLG)."""
    k2 = _k2("lattices")
    best = k2.shortest_path(lattice, use_double_scores=True)
    scores = best.get_tot_scores(use_double_scores=True, log_semiring=False).tolist()
    found = [CtcHypothesis(labels, score) for labels, score in zip(_labels(best), scores)]
    return _undo(found, order)


@outside_inference_mode
def n_best(lattice: Any, order: Tensor, count: int = 100, large: Any = None) -> list[list[CtcHypothesis]]:
    """Different label sequences: the best path's and those of `count` paths, taken evenly over the lattice's probability; the best first.

    Args:
        lattice: of H, HL or HLG.
        large: G of a larger model (`Graph.large`): its n-gram scores take the place of the graph's (n-best rescoring).

    Returns:
        per utterance hypotheses with the score of their best path in the lattice; none where the lattice has no path.
    """
    k2 = _k2("lattices")
    paths = k2.random_paths(lattice, use_double_scores=True, num_paths=count)
    if isinstance(lattice.aux_labels, k2.RaggedTensor):
        labels = lattice.aux_labels.index(paths)
        labels = labels.remove_axis(labels.num_axes - 2)
    else:
        labels = k2.ragged.index(lattice.aux_labels.contiguous(), paths)
    first = _labels(k2.shortest_path(lattice, use_double_scores=True))
    rows = [sorted({tuple(path) for path in (*drawn, best)}) if drawn else []
            for drawn, best in zip(labels.remove_values_leq(0).tolist(), first)]
    sequences = [list(path) for row in rows for path in row]
    if not sequences:
        return _undo([[] for _ in rows], order)
    owner = torch.tensor([i for i, row in enumerate(rows) for _ in row], dtype=torch.int32, device=lattice.device)
    linear = k2.add_epsilon_self_loops(k2.linear_fsa(sequences, device=lattice.device))
    scores = _best_scores(k2.arc_sort(k2.invert(lattice if large is None else without_lm(lattice))), linear, owner)
    if large is not None:
        scores = scores + _best_scores(large, linear, torch.zeros_like(owner))
    found: list[list[CtcHypothesis]] = [[] for _ in rows]
    for place, sequence, score in sorted(zip(owner.tolist(), sequences, scores.tolist()), key=lambda x: -x[2]):
        found[place].append(CtcHypothesis(sequence, score))
    return _undo(found, order)


def _best_scores(fsas: Any, linear: Any, which: Tensor) -> Tensor:
    """Best score [N] of N linear FSAs with epsilon loops, each in its FSA."""
    k2 = _k2("lattices")
    both = k2.top_sort(k2.connect(k2.intersect_device(fsas, linear, which, sorted_match_a=True)))
    return both.get_tot_scores(use_double_scores=True, log_semiring=False)


def without_lm(lattice: Any) -> Any:
    """A lattice of HLG with the n-gram scores of G taken out."""
    out = lattice.clone()
    out.scores = lattice.scores - lattice.lm_scores
    del out.lm_scores
    return out


@outside_inference_mode
def rescore_lattice(lattice: Any, large: Any) -> Any:
    """A lattice of HLG with the n-gram scores of G taken out and those of a larger G put in (whole-lattice rescoring).

    `intersect_device` takes epsilon as any other label. So what has no word in the lattice gets the label of large's loops, and
    epsilon, on loops at every state of the lattice, lets large back off between two frames. (icefall backs off only along an arc of
    the lattice that has no word, and loses what would have to back off more often than there are such arcs.)
    """
    k2 = _k2("lattice rescoring")
    silent = int(large.labels.max())
    inverted = k2.invert(without_lm(lattice))
    inverted.labels = inverted.labels.masked_fill(inverted.labels == 0, silent)
    which = torch.zeros(lattice.shape[0], dtype=torch.int32, device=lattice.device)
    combined = k2.intersect_device(large, k2.add_epsilon_self_loops(inverted), which, sorted_match_a=True)
    combined = k2.top_sort(k2.connect(combined))
    combined.labels = _without(combined.labels, silent)
    return k2.invert(combined)


def _labels(paths: Any) -> list[list[int]]:
    """Output labels above 0 of linear FSAs."""
    k2 = _k2("lattices")
    if isinstance(paths.aux_labels, k2.RaggedTensor):
        aux = paths.aux_labels.remove_values_leq(0)
        shape = paths.arcs.shape().compose(aux.shape).remove_axis(1).remove_axis(1)
        return k2.RaggedTensor(shape, aux.values).tolist()
    return k2.RaggedTensor(paths.arcs.shape().remove_axis(1), paths.aux_labels).remove_values_leq(0).tolist()


def _undo(rows: list[Any], order: Tensor) -> list[Any]:
    """Back into the order of the batch."""
    out: list[Any] = [None] * len(rows)
    for row, place in zip(rows, order.tolist()):
        out[place] = row
    return out


def _k2(why: str) -> Any:
    return require("k2", why=why)
