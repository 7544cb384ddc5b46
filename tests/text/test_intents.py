"""Every sentence of a pack is understood; near commands, negations and other talk are not taken for commands."""

import pytest

from voxkit.hypothesis import Hypothesis, Word
from voxkit.text.intents import Matcher, spoken_confidence
from voxkit.text.pack import built_in, load_pack, parse_pack
from voxkit.text.pack_sentences import sentences


@pytest.fixture(scope="module")
def shooter():
    return Matcher(load_pack("shooter"))


@pytest.mark.parametrize("name", built_in())
def test_every_sentence_means_what_it_was_made_of(name):
    matcher = Matcher(load_pack(name))
    for sentence in sentences(matcher.pack, 250, seed=5):
        answer = matcher.answer(sentence.text.upper() + ".")
        assert (answer.intent, answer.kind, answer.slots, answer.confidence) == (sentence.intent, sentence.kind, dict(sentence.slots), 1.0)


@pytest.mark.parametrize(("text", "intent"), [
    ("pick the lock", "pick_lock"), ("try the lock", None), ("open the door", "open_door"), ("close the door", "close_door"),
    ("hold fire", "hold_fire"), ("hold the line", "hold"), ("open fire", "open_fire"), ("do not open fire", None),
    ("don't plant the bomb", None), ("never open the door", None), ("plant the bomb", "plant"), ("defuse the bomb", "defuse"),
    ("", None), ("thank you", None), ("thanks for watching", None), ("the", None), ("the weather is nice today", None),
    ("i saw a tank in a film about the bridge yesterday evening", None),
])
def test_near_commands_are_told_apart(shooter, text, intent):
    answer = shooter.answer(text)
    assert (answer.intent if answer else None) == intent


@pytest.mark.parametrize(("heard", "intent", "slots"), [
    ("enemy snipper on the roof", "enemy_spotted", {"enemy": "sniper", "place": "roof"}),
    ("go to the sough gate", "move", {"place": "south gate"}),
    ("okay bravo hold your fire", "hold_fire", {"mate": "bravo"}),
])
def test_what_was_misheard_is_understood_and_less_sure(shooter, heard, intent, slots):
    answer = shooter.answer(heard)
    assert (answer.intent, answer.slots) == (intent, slots) and 0.7 <= answer.confidence < 1


def test_a_term_of_its_own_is_no_misheard_one():
    near = {"terms": {"place": [{"term": "lane", "spoken": ["lane"], "not": ["lake"]}, "gate"]},
            "templates": [{"intent": "go", "say": ["go to the {place}"]}, {"intent": "wait", "say": ["wait"]}]}
    matcher = Matcher(parse_pack(near), 0.5)
    assert matcher.answer("go to the lane").slots == {"place": "lane"}
    assert matcher.answer("go to the lanes").slots == {"place": "lane"}
    assert matcher.answer("go to the lake") is None
    del near["terms"]["place"][0]["not"]
    assert Matcher(parse_pack(near), 0.5).answer("go to the lake").slots == {"place": "lane"}


def test_two_meanings_that_are_as_near_make_it_unsure():
    pack = {"templates": [{"intent": "a", "say": ["advance red"]}, {"intent": "b", "say": ["advance rid"]}]}
    alone = {"templates": pack["templates"][:1]}
    unsure, sure = (Matcher(parse_pack(p)).best("advance rod") for p in (pack, alone))
    assert unsure.intent == "a" and unsure.confidence == pytest.approx(sure.confidence / 2)


def test_a_recognizer_that_is_not_sure_is_not_believed(shooter):
    words = [Word(word, 0.0, 0.1, p) for word, p in (("PICK", 0.9), ("THE", 0.9), ("LOCK", 0.2))]
    assert spoken_confidence(Hypothesis("PICK THE LOCK", words)) == pytest.approx((0.9 * 0.9 * 0.2) ** (1 / 3))
    assert spoken_confidence(Hypothesis("PICK THE LOCK")) == 1.0
    assert spoken_confidence(Hypothesis("PICK", token_confidences=[0.5, 0.5])) == pytest.approx(0.5)
    assert shooter.answer(Hypothesis("PICK THE LOCK", words)) is None and shooter.best(Hypothesis("PICK THE LOCK", words)).confidence < 0.6


def test_refused():
    with pytest.raises(ValueError, match="no templates"):
        Matcher(parse_pack({"terms": {"place": ["mid"]}}))
    with pytest.raises(ValueError, match="1.5 is not in"):
        Matcher(load_pack("shooter"), 1.5)
