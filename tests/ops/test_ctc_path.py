"""The best path of CTC against every path there is."""

from itertools import product

import torch

from voxkit.ops.ctc_path import best_path, greedy_path, path_labels, repetitions, token_frames


def collapse(labels):
    return [k for i, k in enumerate(labels) if k and (i == 0 or labels[i - 1] != k)]


def test_no_path_is_better():
    torch.manual_seed(0)
    x = torch.randn(4, 6, 4, dtype=torch.float64).log_softmax(-1)
    tokens, counts = torch.tensor([[1, 2, 2], [3, 1, 0], [2, 0, 0], [0, 0, 0]]), torch.tensor([3, 2, 1, 0])
    lengths = torch.tensor([6, 4, 6, 3])
    path, scores = best_path(x, lengths, tokens, counts)
    spoken = path_labels(tokens).gather(1, path)
    for b, (n, u) in enumerate(zip(lengths.tolist(), counts.tolist())):
        best = max(sum(float(x[b, t, k]) for t, k in enumerate(labels)) for labels in product(range(4), repeat=n)
                   if collapse(labels) == tokens[b, :u].tolist())
        own = spoken[b, :n].tolist()
        assert collapse(own) == tokens[b, :u].tolist()
        assert abs(float(scores[b]) - best) < 1e-9 and abs(sum(float(x[b, t, k]) for t, k in enumerate(own)) - best) < 1e-9


def test_the_greedy_path_is_the_best_one_of_what_it_says():
    torch.manual_seed(1)
    x, lengths = (3 * torch.randn(5, 12, 4)).log_softmax(-1), torch.tensor([12, 9, 5, 1, 0])
    path, counts = greedy_path(x, lengths)
    tokens = torch.zeros(5, max(1, int(counts.max())), dtype=torch.long)
    for b, n in enumerate(lengths.tolist()):
        said = collapse(x[b, :n].argmax(-1).tolist())
        tokens[b, :len(said)] = torch.tensor(said, dtype=torch.long)
        assert int(counts[b]) == len(said)
    best, _ = best_path(x, lengths, tokens, counts)
    for b, n in enumerate(lengths.tolist()):
        assert path[b, :n].tolist() == best[b, :n].tolist()


def test_frames_of_the_tokens():
    path = torch.tensor([[0, 1, 1, 2, 5, 5], [1, 2, 2, 3, 3, 3]])
    first, end = token_frames(path, torch.tensor([6, 4]), 3)
    assert first.tolist() == [[1, 0, 4], [0, 3, 0]] and end.tolist() == [[3, 0, 6], [1, 4, 0]]


def test_repetitions_are_counted_up_to_the_end():
    assert repetitions(torch.tensor([[5, 5, 5, 6], [5, 5, 5, 5]]), torch.tensor([4, 2])).tolist() == [2, 1]


def test_more_tokens_than_frames_have_no_path():
    _, scores = best_path(torch.randn(1, 3, 4).log_softmax(-1), torch.tensor([3]), torch.tensor([[1, 1, 2]]), torch.tensor([3]))
    assert scores.tolist() == [-torch.inf]
