"""`voxkit cache`: what it lists, what it deletes and what it leaves, and that whatever it leaves can still be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from lhotse import CutSet, Recording

from tests.data.frozen import Encoder, write
from tests.encoders import tiny
from voxkit.cli.main import main
from voxkit.data import cache_shards
from voxkit.data.cache_shards import ShardWriter, locked, read_index
from voxkit.data.cache_upkeep import fingerprint_of, prune, survey
from voxkit.data.state_cache import StateCache, build_state_cache

A, B = ["a0", "a1", "a2"], ["b0", "b1", "b2"]


def fill(where: Path, cuts, states, **options) -> StateCache:
    """Shards of a single cut each."""
    return build_state_cache(cuts, Encoder(), where, states, batch_duration=0.1, shard_megabytes=1e-6, **options)


def files(where: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in where.glob("shard-*")}


def changed(tmp_path: Path) -> None:
    """Another recording in place of u1."""
    write(tmp_path / "audio", "u1", 4000, seed=77)
    cache_shards._file_sample.cache_clear()


def manifest(tmp_path: Path, cuts) -> str:
    """The originals alone, as `voxkit prepare` leaves them."""
    path = tmp_path / "cuts_train.jsonl.gz"
    CutSet.from_cuts(cut for cut in cuts if "_sp" not in cut.id).to_file(path)
    return str(path)


def test_the_table(cuts, where, capsys):
    fill(where, cuts, A, encoder="models/whisper")
    fill(where, cuts.subset(first=2), B, encoder="wavlm", dtype="float32")
    newest, oldest = survey(where)
    assert (newest.fingerprint, newest.encoder, newest.dtype, newest.cuts, newest.states) == (fingerprint_of(B), "wavlm", "float32", 2, 3)
    assert (oldest.fingerprint, oldest.encoder, oldest.dtype, oldest.cuts) == (fingerprint_of(A), "models/whisper", "float16", 10)
    assert oldest.seconds == pytest.approx(sum(cut.duration for cut in cuts), abs=0.01)
    assert newest.num_bytes + oldest.num_bytes == sum(map(len, files(where).values()))
    assert newest.useless_bytes == oldest.useless_bytes == 0
    assert main(["cache", str(where)]) == 0
    printed = capsys.readouterr().out
    assert fingerprint_of(A) in printed and "models/whisper" in printed and "nothing in it is superseded" in printed


def test_an_index_of_an_older_version_is_read_and_lacks_the_hours(cuts, where, capsys):
    fill(where, cuts, A, encoder="models/whisper")
    for path in where.glob("shard-*.json"):
        index = json.loads(path.read_text())
        del index["encoder"]
        for entry in index["cuts"].values():
            del entry["seconds"]
        path.write_text(json.dumps(index))
    assert StateCache.open(where, A).covers(cuts)
    (group,) = survey(where)
    assert group.encoder == "" and group.seconds is None and group.cuts == 10
    assert main(["cache", str(where)]) == 0
    assert "(not noted)" in capsys.readouterr().out


def test_superseded_shards_go_and_the_newer_ones_serve_as_before(cuts, where, capsys):
    fill(where, cuts, A[:2] + ["old"])
    fill(where, cuts, A)
    fill(where, cuts.subset(first=4), A, dtype="float32")
    before = files(where)
    kept = {cut.id: StateCache.open(where, A).get(cut.id).clone() for cut in cuts}
    assert main(["cache", str(where), "--prune", "--dry-run"]) == 0
    assert "would free" in capsys.readouterr().out and files(where) == before
    assert sum(group.useless_bytes for group in survey(where)) > 0
    assert main(["cache", str(where), "--prune"]) == 0
    after = files(where)
    freed = sum(len(before[name]) for name in set(before) - set(after))
    assert len(before) - len(after) == 8 and after.items() <= before.items()  # four cuts, data and index of each
    printed = capsys.readouterr().out
    assert f"4 shards of {fingerprint_of(A)}" in printed and "superseded" in printed and f"freed {freed / 1e6:.3f} MB of" in printed
    cache = StateCache.open(where, A)
    assert cache.covers(cuts) and all(torch.equal(cache.get(id), states) for id, states in kept.items())
    assert StateCache.open(where, ["old"]).covers(cuts)
    assert prune(where) == []


def test_a_shard_with_one_entry_that_is_read_stays(cuts, where):
    build_state_cache(cuts, Encoder(), where, A)
    fill(where, cuts.subset(first=9), A, dtype="float32")
    assert prune(where) == []
    assert StateCache.open(where, A).covers(cuts)


def test_fewer_states_are_superseded_by_more_and_not_the_other_way(cuts, where):
    class Two(Encoder):
        def __call__(self, audio, lengths):
            states, frames = super().__call__(audio, lengths)
            return states[:, :2], frames

    some = cuts.subset(first=3)
    build_state_cache(some, Two(), where, A[:2])
    build_state_cache(some, Encoder(), where, A)
    (shard, why), = prune(where)
    assert why == "superseded" and shard.fingerprint == fingerprint_of(A[:2])
    for cut in some:
        write_entry(where, cut, A[1:])
    assert prune(where) == [] and StateCache.open(where, A).covers(some)


def write_entry(where: Path, cut, keys: list[str]) -> None:
    """A shard of one cut, whatever is there."""
    writer = ShardWriter(where, 1.0, "float32")
    writer.add(cut, torch.ones(len(keys), 4, 6), tuple(keys))
    writer.close()


def test_states_of_changed_audio_go_with_their_copies(cuts, where, tmp_path, capsys):
    fill(where, cuts, A)
    named = manifest(tmp_path, cuts)
    assert main(["cache", str(where), "--prune", "--cuts", named]) == 0
    assert "freed 0.000 MB" in capsys.readouterr().out and len(StateCache.open(where, A)) == 10
    changed(tmp_path)
    assert main(["cache", str(where), "--prune"]) == 0
    assert len(StateCache.open(where, A)) == 10  # without the cuts nobody knows
    assert main(["cache", str(where), "--prune", "--cuts", named]) == 0
    assert "audio changed" in capsys.readouterr().out
    assert set(StateCache.open(where, A).entries) == {cut.id for cut in cuts} - {"u1", "u1_sp1.1"}


def test_audio_out_of_reach_and_cuts_that_are_not_named_keep_their_states(cuts, where, tmp_path):
    fill(where, cuts, A)
    known = {cut.id: cut for cut in cuts if cut.id == "u1"}
    changed(tmp_path)
    (tmp_path / "audio").rename(tmp_path / "unmounted")
    cache_shards._file_sample.cache_clear()
    assert prune(where, cuts=known) == []
    (tmp_path / "unmounted").rename(tmp_path / "audio")
    cache_shards._file_sample.cache_clear()
    assert len(prune(where, cuts=known)) == 2  # u1 and its copy; of u0 nothing is said
    assert "u0" in StateCache.open(where, A)


def test_what_is_of_no_use_itself_supersedes_nothing(cuts, where, tmp_path):
    """The audio changed, was encoded anew, and is as it was before: the first states are good again."""
    good = (tmp_path / "audio" / "u1.wav").read_bytes()
    one = cuts.subset(cut_ids=["u1"])
    first = fill(where, one, A).get("u1").clone()
    changed(tmp_path)
    fill(where, [Recording.from_file(tmp_path / "audio" / "u1.wav").to_cut()], A)
    (tmp_path / "audio" / "u1.wav").write_bytes(good)
    cache_shards._file_sample.cache_clear()
    assert [why for _, why in prune(where, cuts={"u1": next(iter(one))})] == ["audio changed"]
    cache = StateCache.open(where, A)
    assert cache.covers(one) and torch.equal(cache.get("u1"), first)


def test_a_named_fingerprint_goes(cuts, where, capsys):
    fill(where, cuts, A)
    fill(where, cuts, B)
    there = files(where)
    for name, error in (("xyz", "is not there"), ("", "stands for several")):
        assert main(["cache", str(where), "--prune", "--fingerprint", name]) == 2
        assert error in (said := capsys.readouterr().err) and fingerprint_of(A) in said and fingerprint_of(B) in said
    assert files(where) == there
    assert main(["cache", str(where), "--prune", "--fingerprint", fingerprint_of(A)[:6]]) == 0
    assert f"10 shards of {fingerprint_of(A)}" in capsys.readouterr().out
    assert StateCache.open(where, B).covers(cuts) and not len(StateCache(where, A))


def test_what_no_wanted_encoder_reads_goes(cuts, where):
    fill(where, cuts, A)
    fill(where, cuts, B)
    with pytest.raises(ValueError, match="no states there serve the encoder to be kept"):
        prune(where, keep=[A, ["c"]])
    assert {shard.fingerprint for shard, _ in prune(where, keep=[A[:2]])} == {fingerprint_of(B)}
    assert StateCache.open(where, A).covers(cuts)


def test_what_cannot_be_read_goes_and_another_version_stays(cuts, where):
    fill(where, cuts, A)
    indexes = sorted(where.glob("*.json"))
    indexes[0].write_text("{")
    indexes[1].with_suffix(".bin").unlink()
    short = indexes[2].with_suffix(".bin")
    short.write_bytes(short.read_bytes()[:-1])
    indexes[3].write_text(json.dumps({**json.loads(indexes[3].read_text()), "format": 2}))
    (where / "shard-00099-0.part").write_bytes(b"half")
    (where / "shard-00098-0.bin").write_bytes(b"no index")
    assert {"(index damaged)", "(data missing)", "(unfinished)", "(of another version of voxkit)"} <= {g.encoder for g in survey(where)}
    reasons = sorted(why for _, why in prune(where))
    assert reasons == ["data cut short", "data missing", "index damaged", "unfinished", "unfinished"]
    assert sorted(where.glob("shard-*.json")) == indexes[3:] and len(list(where.glob("shard-*"))) == 2 * len(indexes[3:])
    assert len(StateCache.open(where, A)) == 6 and read_index(indexes[3]) == {}
    assert fill(where, cuts, A).covers(cuts)


def test_nothing_is_deleted_beside_a_builder(cuts, where, capsys):
    fill(where, cuts, A)
    there = files(where)
    with locked(where):
        assert main(["cache", str(where), "--prune", "--fingerprint", fingerprint_of(A)]) == 2
    assert "states are being built there" in capsys.readouterr().err and files(where) == there
    assert len(prune(where, fingerprints=[fingerprint_of(A)])) == 10


def test_an_interrupted_removal_leaves_nothing_half_readable(cuts, where, monkeypatch):
    fill(where, cuts, A)
    deleted = []
    unlink = Path.unlink

    def interrupted(path, missing_ok=False):
        if path.name.startswith("shard-"):
            if len(deleted) == 5:
                raise KeyboardInterrupt
            deleted.append(path.name)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prune(where, fingerprints=[fingerprint_of(A)])
    monkeypatch.undo()
    assert [Path(name).suffix for name in deleted] == [".json", ".bin"] * 2 + [".json"]
    cache = StateCache.open(where, A)
    assert len(cache) == 7 and all(cache.get(id).isfinite().all() for id in cache.entries)
    assert [why for _, why in prune(where)] == ["unfinished"]


def test_names_of_deleted_shards_are_not_used_again(cuts, where):
    """A run that opened the cache before would take the new shard for the old one."""
    fill(where, cuts, A)
    before = set(files(where))
    prune(where, fingerprints=[fingerprint_of(A)])
    assert files(where) == {}
    fill(where, cuts, B)
    assert len(files(where)) == 20 and not set(files(where)) & before


def test_mistakes_are_named(cuts, where, tmp_path, capsys):
    assert main(["cache", str(tmp_path / "nowhere")]) == 2
    assert "no cached states there" in capsys.readouterr().err
    assert main(["cache", str(tmp_path / "nowhere"), "--prune"]) == 2
    assert not (tmp_path / "nowhere").exists()
    fill(where, cuts, A)
    capsys.readouterr()
    for options in (["--dry-run"], ["--fingerprint", "a"], ["--cuts", "x"], ["--keep-config", "y"]):
        assert main(["cache", str(where), *options]) == 2
        assert f"{options[0]} says what --prune is to do" in capsys.readouterr().err


def test_the_states_of_a_configuration_are_kept(cuts, where, tmp_path, capsys):
    pytest.importorskip("transformers")
    from voxkit.encoders.pretrained import PretrainedConfig, PretrainedEncoder
    from voxkit.text.sentencepiece import train_characters

    encoder = tiny.save_model("whisper", tmp_path)
    train_characters(["heal me now"], tmp_path / "tokens")
    conf = tmp_path / "conf.yaml"
    conf.write_text(f"tokenizer: {tmp_path / 'tokens'}\nmodel:\n  encoder: {{preset: toy}}\n  decoder: {{dim: 16, heads: 2, layers: 1}}\n"
                    f"  front_end: {{pretrained: {{name: {encoder}, unfreeze: [4]}}, adapter_hidden: 24, adapter_dim: 24}}\n")
    frozen = PretrainedEncoder(PretrainedConfig(name=str(encoder)))
    build_state_cache(cuts, frozen.encode, where, frozen.fingerprints(), encoder="tiny")
    fill(where, cuts, B)
    assert main(["cache", str(where), "--prune", "--keep-config", str(conf), "--device", "cpu"]) == 0
    assert f"10 shards of {fingerprint_of(B)}" in capsys.readouterr().out
    assert StateCache.open(where, frozen.fingerprints()).covers(cuts) and not len(StateCache(where, B))
    conf.write_text("tokenizer: ''\n")
    assert main(["cache", str(where), "--prune", "--keep-config", str(conf)]) == 2
    assert "tokenizer: empty" in capsys.readouterr().err
