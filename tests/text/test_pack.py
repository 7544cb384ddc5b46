"""Packs: what a game team writes wrong is named; sentences are distinct, seeded and in one part; nothing of a test set is trained on."""

import pytest
import yaml

from voxkit.cli.main import main
from voxkit.text.pack import built_in, check_spelling, is_identifier, load_pack, parse_pack, parse_pattern, warnings
from voxkit.text.pack_lists import hotword_lines, pack_of, phrase_lines, prompt, read_list, read_localization, to_yaml
from voxkit.text.pack_sentences import PARTS, overlap, part_of, refuse_overlap, sentences, size, spoken_key
from voxkit.text.phrases import read_phrases

SMALL = {
    "name": "small",
    "terms": {"weapon": [{"term": "AK-47", "spoken": ["ak forty seven", "ak"], "weight": 2, "not": ["okay"]}, "rifle"],
              "place": ["north gate", "mid"]},
    "templates": [{"intent": "enemy", "kind": "callout", "say": ["enemy [at] {place}", "{weapon} at {place:where}"]},
                  {"intent": "pick_lock", "say": ["pick the lock"], "not": ["try the lock"]}],
}


def test_every_way_to_say_it():
    pack = parse_pack(SMALL)
    found = sentences(pack)
    assert {s.text for s in found} == {"enemy north gate", "enemy mid", "enemy at north gate", "enemy at mid", "pick the lock",
                                       *(f"{w} at {p}" for w in ("ak forty seven", "ak", "rifle") for p in ("north gate", "mid"))}
    assert size(pack) == len(found) == 11
    by_text = {s.text: s for s in found}
    assert by_text["ak at mid"].slots == {"weapon": "AK-47", "where": "mid"} and by_text["ak at mid"].intent == "enemy"
    assert by_text["pick the lock"].kind == "command" and by_text["pick the lock"].slots == {}


def test_thousands_of_distinct_sentences_that_the_seed_decides():
    for name in built_in():
        pack = load_pack(name)
        found = sentences(pack, 3000, seed=1)
        assert len({s.text for s in found}) == 3000 and found == sentences(pack, 3000, seed=1) != sentences(pack, 3000, seed=2)
        assert {s.intent for s in found} == {t.intent for t in pack.templates}
        check_spelling(pack)
        assert warnings(pack) == []


def test_no_two_parts_share_a_sentence():
    parts = {part: {s.text for s in sentences(load_pack("shooter"), 0, part=part)} for part in PARTS}
    total = sum(map(len, parts.values()))
    assert len(set.union(*parts.values())) == total and 0.77 < len(parts["train"]) / total < 0.83
    assert spoken_key("Hold  the line!") == spoken_key("hold the line") == "HOLD THE LINE"
    assert part_of("Hold the line!") == part_of("HOLD THE LINE")
    with pytest.raises(ValueError, match="'valid' is none of train, dev, test"):
        sentences(parse_pack(SMALL), part="valid")


def test_what_a_test_set_holds_is_refused_and_named():
    held_out = {"callouts": ["Pick the lock!", "Other"], "briefings": ["PICK THE LOCK"]}
    training = ["enemy mid", "pick the lock", "pick the lock"]
    assert overlap(training, held_out) == {"pick the lock": ["callouts", "briefings"]}
    with pytest.raises(ValueError, match=r"1 sentences of training.*'pick the lock' \(callouts, briefings\)"):
        refuse_overlap(training, held_out)
    refuse_overlap(["enemy mid"], held_out)


@pytest.mark.parametrize(("change", "message"), [
    ({"terms": {"weapon": [{"term": "AK_47"}]}, "templates": []}, "term 'AK_47': no spoken form.*ak 47"),
    ({"terms": {"weapon": [{"term": "x", "spoken": "x", "wait": 1}]}}, "term 'x': 'wait' is none of"),
    ({"terms": {"weapon": [{"term": "x", "spoken": "x", "weight": 0}]}}, "weight 0 is no number above 0"),
    ({"terms": {"place": ["mid", "mid"]}}, "'mid' is in class place twice"),
    ({"templates": [{"intent": "go", "say": ["go to {town}"]}]}, "{town} names no class of terms; there are place, weapon"),
    ({"templates": [{"intent": "go", "kind": "order", "say": ["go"]}]}, "kind 'order' is none of command, callout, question"),
    ({"templates": [{"intent": "go", "say": ["[go]"]}]}, "all of it may be left out"),
    ({"templates": [{"intent": "go", "say": ["from {place} to {place}"]}]}, "slot place is there twice"),
    ({"templates": [{"intent": "go", "say": ["go [now"]}]}, "a bracket that does not close"),
    ({"extra": 1}, "'extra' is none of name, about, terms, templates"),
])
def test_mistakes_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        parse_pack({**SMALL, **change})


def test_brackets_are_left_out_as_a_whole():
    pattern = parse_pattern("[now go] to {place} [please]", {"place"})
    assert sorted(len(v) for v in pattern.variants()) == [2, 3, 4, 5]


def test_identifiers_draw_a_warning():
    for raw in ("WPN_AK47", "unitTank", "tank2", "BaseStructure.HQ", "x_y"):
        assert is_identifier(raw), raw
    for said in ("ak forty seven", "don't", "A site", "hold the line"):
        assert not is_identifier(said), said
    pack = parse_pack({"terms": {"unit": [{"term": "a", "spoken": ["unitTankHeavy", "4 tanks"]}, {"term": "b", "spoken": ["x"]},
                                          {"term": "c", "spoken": ["X"]}]}})
    found = warnings(pack)
    assert len(found) == 3 and "'unit tank heavy'" in found[0] and "figures" in found[1] and "2 terms" in found[2]


class Letters:
    """A vocabulary of capitals, where 0 is what it cannot spell."""

    unk = 0

    def encode(self, text):
        return [max(0, "ABCDEFGHIJKLMNOPQRSTUVWXYZ' ".find(c) + 1) for c in text]


def test_a_phrase_that_cannot_be_spelled_is_an_error_that_names_it():
    pack = parse_pack({**SMALL, "terms": {**SMALL["terms"], "weapon": [{"term": "x", "spoken": ["щит", "42"]}]}})
    check_spelling(parse_pack(SMALL), Letters(), "librispeech")
    with pytest.raises(ValueError, match="2 phrases cannot be tokenized: 'щит' .*'42'"):
        check_spelling(pack, Letters(), "librispeech")
    with pytest.raises(ValueError, match="1 phrases cannot be tokenized: '42'"):
        check_spelling(pack)


def test_exports(tmp_path):
    pack = parse_pack(SMALL)
    assert phrase_lines(pack) == ["ak forty seven\t3", "ak\t3", "rifle", "north gate", "mid", "pick the lock"]
    assert hotword_lines(pack)[:3] == ["AK FORTY SEVEN :3", "AK :3", "RIFLE"]
    (tmp_path / "p.txt").write_text("\n".join(phrase_lines(pack, "lower")))
    assert read_phrases(tmp_path / "p.txt")["ak forty seven"] == 3.0
    assert prompt(pack) == "ak forty seven, ak, north gate, pick the lock, rifle, mid."
    assert prompt(pack, 20) == "ak forty seven, ak."


def test_lists_and_localization_tables_become_packs(tmp_path):
    (tmp_path / "list.txt").write_text("zerg rush\t2\nnydus worm\n")
    assert [(t.name, t.weight) for t in read_list(tmp_path / "list.txt", "unit")] == [("zerg rush", 2.0), ("nydus worm", 1.0)]
    (tmp_path / "strings.csv").write_text('Key,English,Deutsch\nU1,"<b>Siege Tank</b>",Panzer\nU2,"Deals {0} damage",x\nU3,Siege tank!,y\n'
                                          'D1,"A long sentence that nobody would call a name",z\nN,Mark 4,w\n')
    terms, left_out = read_localization(tmp_path / "strings.csv", "unit")
    assert [(t.name, t.spoken) for t in terms] == [("Siege Tank", ("siege tank",)), ("Deals damage", ("deals damage",))] and left_out == 2
    with pytest.raises(ValueError, match="no column 'french'.*Key, English, Deutsch"):
        read_localization(tmp_path / "strings.csv", "unit", column="french")
    pack = pack_of("mine", terms)
    assert parse_pack(yaml.safe_load(to_yaml(pack)), "mine") == pack
    assert parse_pack(yaml.safe_load(to_yaml(parse_pack(SMALL))), "x") == parse_pack(SMALL, "x")


def test_the_command(tmp_path, capsys):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    (tmp_path / "test.txt").write_text("Pick the lock.\n")
    out = str(tmp_path / "lines.txt")
    assert main(["pack", "check", str(path)]) == 0 and "3 terms" not in capsys.readouterr().out
    assert main(["pack", "sentences", str(path), "--held-out", str(tmp_path / "test.txt"), "--out", out]) == 2
    assert "'pick the lock'" in capsys.readouterr().err and not (tmp_path / "lines.txt").exists()
    assert main(["pack", "sentences", str(path), "--held-out", str(tmp_path / "test.txt"), "--leave-out", "--out", out]) == 0
    assert "left out" in capsys.readouterr().err and len((tmp_path / "lines.txt").read_text().splitlines()) == 10
    assert main(["pack", "check", str(path), "--train", out, "--held-out", str(tmp_path / "test.txt")]) == 0
    (tmp_path / "more.txt").write_text("PICK THE LOCK\n")
    assert main(["pack", "check", str(path), "--train", out, str(tmp_path / "more.txt"), "--held-out", str(tmp_path / "test.txt")]) == 2
    assert "more.txt" in capsys.readouterr().err
    (tmp_path / "l.csv").write_text("id;text\na;Siege_Tank\n")
    assert main(["pack", "read", str(tmp_path / "l.csv"), "--class", "unit", "--out", str(tmp_path / "game.yaml")]) == 0
    assert load_pack(tmp_path / "game.yaml").phrases() == {"siege tank": 1.0}
