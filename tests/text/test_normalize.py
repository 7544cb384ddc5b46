import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxkit.text.normalize import NORMALIZATIONS, normalize

HARD = "aHs1 .,'`\u2018\u2019\u201b\u2032\u00b4\u00ad\u200b\u200c\u200d\u00bd\u00b2\u2082\u0301\u2460"
TEXTS = ["HEAL ME NOW", "PUSH THE LEFT LANE", "WARD AT DRAGON", "DON'T PUSH THE RIGHT LANE", "ENEMY MISSING TOP"]


@pytest.mark.parametrize("written, said", [
    ("Heal me, now!", "HEAL ME NOW"),
    ("Don\u2019t push - it\u2019s 'over'.", "DON'T PUSH IT'S 'OVER'"),
    ("Low-health caf\u00e9 & bar", "LOW HEALTH CAFE AND BAR"),
    ("...", ""),
    ("\u2018Hello,\u2019 she said", "HELLO SHE SAID"),
    ("\u2018Hello\u2019", "HELLO"),
    ("'Hello,' he said", "HELLO HE SAID"),
    ("`Hello,' he said", "HELLO HE SAID"),
    ("\u2018Don\u2019t touch the dogs\u2019 bowl,\u2019 he said", "DON'T TOUCH THE DOGS' BOWL HE SAID"),
    ("\u201c\u2018Yes,\u2019 he said, \u2018the boys\u2019 bowl.\u2019\u201d", "YES HE SAID THE BOYS' BOWL"),
    ("\u2018over\u2019 and the dogs\u2019 bowl", "OVER AND THE DOGS' BOWL"),
    ("he said \u2018Go", "HE SAID GO"),
    ("\u201aHallo\u2018 sagt er", "HALLO SAGT ER"),
    ("\u2018Tis the \u2018em \u201990s, don\u2018t", "'TIS THE 'EM '90S DON'T"),
    ("rock\u2019n\u2019roll goin\u2019 on", "ROCK'N'ROLL GOIN' ON"),
    ("co\u00adoperate, re\u200benter, \ufeffheal, zero\u2060width, \u202aleft\u202c", "COOPERATE REENTER HEAL ZEROWIDTH LEFT"),
    ("he\u200cal me\u200d", "HEAL ME"),
    ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
    ("2\u00bd cups", "2 1 2 CUPS"),
    ("10\u00b2 and 5\u00b2\u00b3", "10 2 AND 5 23"),
    ("1\u00bd\u00bc, 10\u207b\u00b3, \u2460\u2461", "1 1 2 1 4 10 3 1 2"),
    ("H\u2082O, \uff12\uff13 m\u00b2", "H2O 23 M2"),
    ("\u0939\u093f\u0928\u094d\u0926\u0940", "\u0939\u093f\u0928\u094d\u0926\u0940"),
])
def test_librispeech_normalization(written, said):
    assert normalize("librispeech", written) == said


def test_normalizations_settle_at_once_and_unknown_ones_are_named():
    for name in NORMALIZATIONS:
        for text in (*TEXTS, "  a\u0301 B-c \u2018d\u2019  e' ", "Stra\u00dfe \u0130"):
            assert normalize(name, normalize(name, text)) == normalize(name, text)
    assert normalize("lower", " Heal  ME!") == "heal me!" and normalize("none", " Heal  ME!") == "Heal ME!"
    with pytest.raises(ValueError, match="none, librispeech, lower"):
        normalize("upper", "x")


@pytest.mark.parametrize("name", ["none", "lower"])
def test_what_is_invisible_goes_and_what_shapes_letters_stays(name):
    assert normalize(name, "co\u00adop \u200bzero\u200bwidth\ufeff") == "coop zerowidth"
    assert normalize(name, "\u0915\u094d\u200d\u0937") == "\u0915\u094d\u200d\u0937"


@settings(max_examples=400, deadline=None)
@given(st.text(st.one_of(st.characters(exclude_categories=("Cs",)), st.sampled_from(HARD)), max_size=24))
def test_any_text_settles_at_once(text):
    for name in NORMALIZATIONS:
        once = normalize(name, text)
        assert normalize(name, once) == once and once == " ".join(once.split())
    assert not set("\u00ad\u200b\u2018\u2019,.") & set(normalize("librispeech", text))
