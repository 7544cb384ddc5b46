"""Sets on disk: pieces in any order, the same cuts as in memory, exact resume, shares, Shar directories, and nothing run out of data."""

from __future__ import annotations

import functools
import gzip
import http.server
import json
import random
import threading
from dataclasses import replace

import numpy as np
import pytest

from tests.data.utterances import NUM, Letters, everything, same
from voxkit.data import sets
from voxkit.data.loader import build_train_loader, largest_batch
from voxkit.data.manifests import load_cuts, save_cuts
from voxkit.data.pieces import split_manifest, write_blocks
from voxkit.data.sets import read_sets, split_share


@pytest.fixture
def on_disk(monkeypatch):
    """Any set is too large for memory, and blocks are small."""
    monkeypatch.setattr(sets, "IN_MEMORY", 5)
    monkeypatch.setattr("voxkit.data.pieces.BLOCK", 7)
    monkeypatch.setattr("voxkit.data.pieces._SPAN", 2000)


def written(cuts, folder, kind):
    """The cuts as one of the kinds of manifest there are → the name of the set."""
    if kind == "prepared":
        save_cuts(cuts, folder / "cuts_train.jsonl.gz")
        return "train"
    if kind == "shar":
        (folder / "shar").mkdir()
        cuts.to_shar(folder / "shar", fields={"recording": "flac"}, shard_size=9)
        return str(folder / "shar")
    path = folder / f"mine.jsonl{'.gz' if kind == 'gz' else ''}"
    cuts.to_file(path)
    return str(path)


KINDS = ["prepared", "jsonl", "gz", "shar"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_cuts_in_memory_and_on_disk(sounds, tmp_path, kind, monkeypatch):
    _, cuts = sounds
    name = written(cuts, tmp_path, kind)
    whole = read_sets(str(tmp_path), [name])
    assert not whole.is_lazy and [cut.id for cut in whole] == [cut.id for cut in cuts]
    monkeypatch.setattr(sets, "IN_MEMORY", 5)
    lazy = read_sets(str(tmp_path), [name])
    assert lazy.is_lazy and [cut.to_dict() for cut in lazy] == [cut.to_dict() for cut in whole]
    assert [cut.to_dict() for cut in lazy] == [cut.to_dict() for cut in whole]  # and once more
    assert lazy.data.count() == NUM
    for share in ("0.3", "0.55"):
        part = [cut.id for cut in read_sets(str(tmp_path), [f"{name}:{share}"])]
        monkeypatch.setattr(sets, "IN_MEMORY", 1000)
        assert part == [cut.id for cut in read_sets(str(tmp_path), [f"{name}:{share}"])] and len(part) == int(NUM * float(share))
        monkeypatch.setattr(sets, "IN_MEMORY", 5)
        shuffled = read_sets(str(tmp_path), [f"{name}:{share}"]).data.shuffled(random.Random(1))
        assert sorted(cut.id for cut in shuffled) == sorted(part)
    assert [cut.id for cut in read_sets(str(tmp_path), [name], 13)] == [cut.id for cut in cuts][:13]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("workers", [0, 2])
def test_training_goes_over_all_in_another_order_and_continues_exactly(sounds, tmp_path, kind, workers, on_disk):
    root, cuts = sounds
    lazy = read_sets(str(tmp_path), [written(cuts, tmp_path, kind)])
    assert lazy.is_lazy
    config = everything(root, num_workers=workers, buffer_size=20)
    loader = build_train_loader(lazy, Letters(), config, seed=7)
    epochs = []
    for epoch in (0, 1):
        loader.set_epoch(epoch)
        epochs.append(list(loader))
        assert sorted(id.split("_sp")[0] for b in epochs[-1] for id in b.ids) == sorted(cut.id for cut in cuts)
    orders = [[id.split("_sp")[0] for b in batches for id in b.ids] for batches in epochs]
    assert orders[0] != orders[1]
    stopped = build_train_loader(lazy, Letters(), config, seed=7)
    stopped.set_epoch(1)
    running = iter(stopped)
    first = [next(running) for _ in range(4)]
    fresh = build_train_loader(read_sets(str(tmp_path), [lazy.data.sets[0].name]), Letters(), config, seed=7)
    fresh.load_state_dict(stopped.state_dict())
    assert fresh.position == 4 and same(first, epochs[1][:4]) and same(list(fresh), epochs[1][4:])
    assert 0.5 * len(epochs[0]) <= len(loader) <= 2 * len(epochs[0])  # an estimate


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_a_set_on_disk(sounds, tmp_path, on_disk, world_size):
    root, cuts = sounds
    name = written(cuts, tmp_path, "prepared")
    shares = [list(build_train_loader(read_sets(str(tmp_path), [name]), Letters(), everything(root, buffer_size=20), seed=7, rank=rank,
                                      world_size=world_size)) for rank in range(world_size)]
    ids = [id.split("_sp")[0] for share in shares for batch in share for id in batch.ids]
    assert len({len(share) for share in shares}) == 1 and set(ids) == {cut.id for cut in cuts} and len(ids) < NUM + world_size


def test_other_data_on_disk_begins_the_epoch_again(sounds, tmp_path, on_disk, caplog):
    root, cuts = sounds
    name = written(cuts, tmp_path, "prepared")
    loader = build_train_loader(read_sets(str(tmp_path), [name]), Letters(), everything(root), seed=7)
    next(iter(loader))
    save_cuts(list(cuts)[1:], tmp_path / "cuts_train.jsonl.gz")
    other = build_train_loader(read_sets(str(tmp_path), [name]), Letters(), everything(root), seed=7)
    other.load_state_dict(loader.state_dict())
    assert other.position == 0 and "begins again" in caplog.text


def test_what_is_left_out_of_a_set_on_disk_is_named_once(sounds, tmp_path, on_disk, caplog):
    root, cuts = sounds
    name = written(cuts, tmp_path, "prepared")
    loader = build_train_loader(read_sets(str(tmp_path), [name]), Letters(), everything(root, min_seconds=0.5), seed=7)
    for epoch in (0, 1):
        loader.set_epoch(epoch)
        assert all(b.size for b in loader)
    assert [r.getMessage() for r in caplog.records].count("training data: " + loader.sampler.keep.report(NUM)) == 1


def test_the_largest_batch_of_a_set_on_disk_is_not_exceeded(sounds, tmp_path, on_disk):
    root, cuts = sounds
    name = written(cuts, tmp_path, "prepared")
    config = everything(root, max_duration=20.0, max_seconds=2.5)
    lazy = read_sets(str(tmp_path), [name])
    largest = largest_batch(lazy, Letters(), config, 20.0)
    for batch in build_train_loader(lazy, Letters(), config, seed=1):
        assert batch.input.values.shape[1] <= largest.input.values.shape[1]
        assert batch.tokens.values.shape[1] <= largest.tokens.values.shape[1]


def test_blocks_are_plain_gzip(sounds, tmp_path, monkeypatch):
    monkeypatch.setattr("voxkit.data.pieces.BLOCK", 7)
    _, cuts = sounds
    with open(tmp_path / "a.jsonl.gz", "wb") as file:
        write_blocks(file, (cut.to_dict() for cut in cuts))
    pieces = split_manifest(tmp_path / "a.jsonl.gz")
    assert [piece.lines for piece in pieces] == [7] * 8 + [4]
    assert sum(piece.seconds for piece in pieces) == pytest.approx(sum(cut.duration for cut in cuts))
    lines = gzip.open(tmp_path / "a.jsonl.gz", "rt").read().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [cut.id for cut in cuts]
    backwards = [row["id"] for piece in reversed(pieces) for _, row in piece.read()]
    assert sorted(backwards) == sorted(cut.id for cut in cuts)
    with open(tmp_path / "none.jsonl.gz", "wb") as file:
        write_blocks(file, [])
    assert gzip.open(tmp_path / "none.jsonl.gz").read() == b"" and list(load_cuts(tmp_path / "none.jsonl.gz")) == []


@pytest.mark.parametrize("damage, said", [("cut", "cut short|damaged manifest"), ("flip", "damaged manifest|not a cut"),
                                          ("text", "damaged manifest")])
@pytest.mark.parametrize("kind", ["prepared", "gz", "jsonl"])
def test_damaged_manifests_are_named(sounds, tmp_path, kind, damage, said):
    _, cuts = sounds
    name = written(cuts, tmp_path, kind)
    path = tmp_path / "cuts_train.jsonl.gz" if kind == "prepared" else tmp_path / name
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[:len(data) // 2]
    elif damage == "flip":
        for place in range(len(data) // 2, len(data) // 2 + 40):
            data[place] ^= 0x5A
    else:
        data = gzip.compress(b"no cuts at all\n") if path.suffix == ".gz" else bytearray(b"no cuts at all\n")
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=said) as error:
        list(read_sets(str(tmp_path), [name]))
    assert path.name in str(error.value)


BAD = [({"type": "command", "channels": [0], "source": "touch {victim}; cat {audio}"}, "runs no commands"),
       ({"type": "file", "channels": [0], "source": "pipe:touch {victim}"}, "runs no commands"),
       ({"type": "file", "channels": [0], "source": "touch {victim} |"}, "runs no commands"),
       ({"type": "url", "channels": [0], "source": "http://127.0.0.1:9/{victim}"}, "follows none"),
       ({"type": "odd", "channels": [0], "source": "x"}, "of type 'odd'")]
STORAGES = [({"storage_type": "kaldiio", "storage_path": "touch {victim} |", "storage_key": "u"}, "may run commands"),
            ({"storage_type": "lilcom_chunky", "storage_path": "pipe:touch {victim}", "storage_key": "0"}, "runs and follows none"),
            ({"storage_type": "lilcom_url", "storage_path": "http://127.0.0.1:9/", "storage_key": "u"}, "does not open")]


@pytest.mark.parametrize("kind", ["cuts", "mixed", "features"])
@pytest.mark.parametrize("which", range(5))
def test_nothing_but_files_is_opened(sounds, tmp_path, kind, which):
    """Wherever a command reads cuts: sets, manifests of a folder, noise."""
    from voxkit.cli.main import main
    from voxkit.data.augment import open_sounds
    from voxkit.data.corpora.folder import read_folder

    root, cuts = sounds
    if kind == "features" and which >= len(STORAGES):
        pytest.skip("fewer kinds of storage")
    source, said = (STORAGES if kind == "features" else BAD)[which]
    victim = tmp_path / "victim"
    names = {"victim": victim, "audio": root / "u00.wav"}
    filled = {key: value.format(**names) if isinstance(value, str) else value for key, value in source.items()}
    cut = cuts[0].to_dict()
    if kind == "features":
        cut["features"] = {"type": "fbank", "num_frames": 9, "num_features": 4, "frame_shift": 0.01, "sampling_rate": 16000, "start": 0,
                           "duration": 0.09, "channels": 0, "recording_id": "u00", **filled}
    else:
        cut["recording"]["sources"] = [filled]
    if kind == "mixed":
        cut = {"id": "m", "type": "MixedCut", "tracks": [{"cut": cuts[1].to_dict(), "type": "MonoCut"}, {"cut": cut, "type": "MonoCut"}]}
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "cuts_train.jsonl").write_text(json.dumps(cut) + "\n")
    for read in (lambda: list(read_sets(".", [str(folder / "cuts_train.jsonl")])), lambda: list(load_cuts(folder / "cuts_train.jsonl")),
                 lambda: read_folder(folder), lambda: open_sounds(str(folder / "cuts_train.jsonl"), "data.noise")):
        with pytest.raises(ValueError, match=said):
            read()
    assert main(["prepare", "folder", "--corpus-dir", str(folder), "--out", str(tmp_path / "out")]) == 2
    assert not victim.exists()


@pytest.mark.parametrize("duration", [float("nan"), float("inf"), -1.0, 0.0, None, "long"])
def test_a_duration_that_is_none_is_named(sounds, tmp_path, duration):
    _, cuts = sounds
    cut = {**cuts[0].to_dict(), "duration": duration}
    (tmp_path / "a.jsonl").write_text(json.dumps(cuts[1].to_dict()) + "\n" + json.dumps(cut) + "\n")
    with pytest.raises(ValueError, match=r"a\.jsonl:2, u00: "):
        list(read_sets(".", [str(tmp_path / "a.jsonl")]))


@pytest.mark.parametrize("entry, name, share", [("train", "train", 1.0), ("train:0.3", "train", 0.3), ("s3://b/t", "s3://b/t", 1.0),
                                                ("s3://b/t:0.5", "s3://b/t", 0.5), ("http://h:8000/t", "http://h:8000/t", 1.0),
                                                ("http://h:80", "http://h:80", 1.0), ("C:/x/a.jsonl", "C:/x/a.jsonl", 1.0)])
def test_shares(entry, name, share):
    assert split_share(entry) == (name, share)


@pytest.mark.parametrize("entry", ["train:0", "train:1.5", "s3://b/t:2"])
def test_shares_out_of_range(entry):
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        split_share(entry)


@pytest.fixture
def served(sounds, tmp_path, monkeypatch):
    """A Shar directory behind a web server → its URL and the paths that were asked for."""
    pytest.importorskip("aiohttp")
    _, cuts = sounds
    (tmp_path / "web" / "shar").mkdir(parents=True)
    cuts.to_shar(tmp_path / "web" / "shar", fields={"recording": "flac"}, shard_size=20)
    monkeypatch.setenv("VOXKIT_CACHE", str(tmp_path / "cache"))
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(f"{self.command} {self.path}")

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path / "web")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/shar", asked
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("listed", [True, False])
def test_shar_at_a_url(sounds, served, listed, on_disk):
    root, cuts = sounds
    url, asked = served
    name = url if listed else f"{url}/cuts.{{000000..000002}}.jsonl.gz"
    config = everything(root, num_workers=2, speed_perturb=[1.0], noise_prob=0.0, rir_prob=0.0, volume=[1.0, 1.0], buffer_size=20)
    batches = list(build_train_loader(read_sets(".", [name]), Letters(), config, seed=7))
    by_id = {cut.id: cut for cut in cuts}
    assert sorted(id for b in batches for id in b.ids) == sorted(by_id)
    for batch in batches:
        for id, row, n in zip(batch.ids, batch.audio.values, batch.audio.lengths):
            np.testing.assert_allclose(row[:n].numpy(), by_id[id].load_audio()[0], atol=1e-4)
    fetched = [line for line in asked if "GET" in line and line.endswith((".tar", ".gz"))]
    list(build_train_loader(read_sets(".", [name]), Letters(), config, seed=7))
    assert [line for line in asked if "GET" in line and line.endswith((".tar", ".gz"))] == fetched  # once


def test_shar_that_is_not_whole(sounds, tmp_path, served):
    _, cuts = sounds
    (tmp_path / "shar").mkdir()
    cuts.to_shar(tmp_path / "shar", fields={"recording": "wav"}, shard_size=20)
    (tmp_path / "shar" / "recording.000001.tar").write_bytes(b"no archive")
    root, config = tmp_path, everything(tmp_path, noise_prob=0.0, rir_prob=0.0, max_failures=30)
    loader = build_train_loader(read_sets(".", [str(root / "shar")]), Letters(), config, seed=1)
    assert sum(b.size for b in loader) == NUM - 20 and "recording.000001.tar: " in next(iter(loader.failures.values()))
    (tmp_path / "shar" / "recording.000002.tar").unlink()
    with pytest.raises(ValueError, match="3 shards of cuts and 2 of recording"):
        read_sets(".", [str(tmp_path / "shar")])
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="no prepared set"):
        read_sets(str(tmp_path), ["none"])
    url, _ = served
    with pytest.raises(ValueError, match="cannot be listed|no shards"):
        read_sets(".", [url.replace("/shar", "/nowhere")])


def test_a_prepared_folder_of_shar(sounds, tmp_path):
    from lhotse import CutSet

    from voxkit.data.corpora.folder import prepare_folder

    _, cuts = sounds
    cuts = CutSet.from_cuts(replace(cut, supervisions=[replace(cut.supervisions[0], text="HOLD")]) for cut in cuts)
    (tmp_path / "shar").mkdir()
    cuts.to_shar(tmp_path / "shar", fields={"recording": "flac"}, shard_size=20)
    report = prepare_folder(tmp_path / "data", tmp_path / "shar", dev=0, test=0, jobs=1).reports["train"]
    assert report.kept == NUM and not report.left_out
    from voxkit.data.reader import load_samples

    for cut in list(load_cuts(tmp_path / "data/cuts_train.jsonl.gz"))[:3]:
        assert len(load_samples(cut)) == cut.num_samples
