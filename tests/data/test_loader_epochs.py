"""What an epoch consists of: every utterance, its order, shares of processes, sizes of batches; options that are refused."""

from __future__ import annotations

import pytest

from tests.data.utterances import NUM, Cache, Letters, everything, same
from voxkit.config import ConfigError, structure
from voxkit.data.config import DataConfig
from voxkit.data.loader import build_eval_loader, build_train_loader, largest_batch


def test_every_utterance_once_per_epoch_in_another_order(sounds):
    root, cuts = sounds
    for config in (everything(root), everything(root, num_buckets=30, max_duration=4.0), everything(root, max_utterances=2)):
        loader = build_train_loader(cuts, Letters(), config, seed=7)
        orders = []
        for epoch in range(3):
            loader.set_epoch(epoch)
            batches = list(loader.sampler.batches(epoch))
            ids = [cut.id.split("_sp")[0] for batch in batches for cut in batch]
            assert sorted(ids) == sorted(cut.id for cut in cuts)
            for batch in batches:
                assert len(batch) * max(cut.duration for cut in batch) <= config.max_duration
                assert not config.max_utterances or len(batch) <= config.max_utterances
            orders.append(ids)
        assert orders[0] != orders[1] != orders[2]


def test_epochs_and_seeds_differ_in_what_is_heard(sounds):
    root, cuts = sounds

    def heard(seed, epoch):
        loader = build_train_loader(cuts, None, everything(root, speed_perturb=[1.0]), seed=seed)
        loader.set_epoch(epoch)
        return {id: row[:n].clone() for batch in loader for id, row, n in zip(batch.ids, batch.audio.values, batch.audio.lengths)}

    once, again, later, elsewhere = heard(1, 0), heard(1, 0), heard(1, 1), heard(2, 0)
    assert all(once[id].equal(again[id]) for id in once)
    assert sum(once[id].equal(later[id]) for id in once) < 5 and sum(once[id].equal(elsewhere[id]) for id in once) < 5


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("drop_last", [False, True])
def test_processes_share_an_epoch(sounds, world_size, drop_last):
    root, cuts = sounds
    config = everything(root, drop_last=drop_last)
    shares = [list(build_train_loader(cuts, Letters(), config, seed=7, rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert len({len(share) for share in shares}) == 1
    ids = [id.split("_sp")[0] for share in shares for batch in share for id in batch.ids]
    if drop_last:
        assert len(ids) == len(set(ids)) and len(ids) > NUM // 2
    else:
        assert set(ids) == {cut.id for cut in cuts} and len(ids) < NUM + world_size


def test_few_utterances(sounds):
    root, cuts = sounds
    for count in (1, 2, 3):
        few = cuts.subset(first=count)
        assert sum(b.size for b in build_train_loader(few, Letters(), everything(root), seed=1)) == count
        for rank in range(2):
            assert sum(b.size for b in build_train_loader(few, Letters(), everything(root), seed=1, rank=rank, world_size=2)) >= 1


@pytest.mark.parametrize("world_size", [2, 4, 8])
@pytest.mark.parametrize("speed", [1.0, 1.1])
def test_an_utterance_that_processes_share_keeps_its_id(sounds, world_size, speed):
    """lhotse calls further ones `<id>_dup0`, `<id>_dup0_dup1` and so on, and no cache of states would know them."""
    root, cuts = sounds
    one = cuts.subset(first=1)
    own = [cut.with_id("own_dup0") for cut in one]
    suffix = "" if speed == 1.0 else f"_sp{speed}"
    for few, id in ((one, one[0].id), (own, "own_dup0")):
        for rank in range(world_size):
            config = everything(root, speed_perturb=[speed])
            (batch,) = build_train_loader(few, Letters(), config, seed=1, rank=rank, world_size=world_size)
            assert batch.ids == [id + suffix]


def test_short_first(sounds):
    root, cuts = sounds
    loader = build_train_loader(cuts, Letters(), everything(root, short_first=True), seed=7)
    longest = [int(batch.audio.lengths.max()) for batch in loader]
    assert longest == sorted(longest) and len(longest) == len(loader)
    loader.set_epoch(1)
    longest = [int(batch.audio.lengths.max()) for batch in loader]
    assert longest != sorted(longest)


def test_evaluation_takes_everything_longest_first_and_unchanged(sounds):
    root, cuts = sounds
    config = everything(root, min_seconds=1.0, max_duration="auto")
    loaders = [build_eval_loader(cuts, Letters(), config, rank=rank, world_size=2, max_duration=6.0) for rank in range(2)]
    batches = [list(loader) for loader in loaders]
    assert sorted(id for share in batches for b in share for id in b.ids) == sorted(cut.id for cut in cuts)
    longest = [int(b.audio.lengths.max()) for b in batches[0]]
    assert longest == sorted(longest, reverse=True)
    assert same(list(loaders[0]), batches[0])


@pytest.mark.parametrize("changes", [{}, {"input": "fbank"}, {"speed_perturb": [1.0]}])
def test_no_batch_is_larger_than_the_largest(sounds, changes):
    root, cuts = sounds
    config = everything(root, max_duration=20.0, **changes)
    largest = largest_batch(cuts, Letters(), config, 20.0)
    assert largest.size == largest.tokens.size == len(largest.ids) >= 8
    assert int(largest.input.lengths.max()) == largest.input.values.shape[1]
    for batch in build_train_loader(cuts, Letters(), config, seed=1):
        assert batch.input.values.shape[1] <= largest.input.values.shape[1] + 1
        assert batch.tokens.values.shape[1] <= largest.tokens.values.shape[1]
        assert batch.input.values.shape[:2].numel() <= 1.1 * largest.input.values.shape[:2].numel() + 200
    assert largest_batch(cuts, Letters(), config, 0.1).size == 1
    assert largest_batch(list(cuts)[4:], None, config, 20.0, states=Cache()).states.values.shape[2] == 2


def test_configurations_refuse():
    for values, match in (({"input": "mel"}, "audio, fbank"), ({"max_duration": "all"}, "auto"), ({"noise_prob": 0.5}, "no noise is named"),
                          ({"rir_prob": 2.0, "rir": "x"}, "rir_prob"), ({"speed_perturb": []}, "speed_perturb"),
                          ({"volume": [0.0, 1.0]}, "gain"),
                          ({"noise_snr": [9.0, 1.0]}, "noise_snr"), ({"prefetch": 0}, "prefetch"), ({"min_seconds": 50.0}, "max_seconds")):
        with pytest.raises(ConfigError, match=match):
            structure(DataConfig, values)
    for value in (200, 200.5, "auto"):
        assert structure(DataConfig, {"max_duration": value}).max_duration == value


def test_builders_refuse(sounds, tmp_path):
    root, cuts = sounds
    with pytest.raises(ValueError, match="auto has to be resolved"):
        build_train_loader(cuts, None, DataConfig(max_duration="auto"), seed=1)
    with pytest.raises(ValueError, match="data.noise: .* neither a folder"):
        build_train_loader(cuts, None, everything(root, noise=str(tmp_path / "none")), seed=1)
    with pytest.raises(ValueError, match="data.rir: no audio"):
        build_train_loader(cuts, None, everything(root, rir=str(tmp_path)), seed=1)
