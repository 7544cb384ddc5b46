"""What a pretrained language model expects at every place of a text, for an n-gram."""

import json
from collections import Counter

import pytest
import torch

transformers = pytest.importorskip("transformers")

from voxkit.cli.main import main  # noqa: E402
from voxkit.infer.pretrained_lm import PretrainedLM  # noqa: E402
from voxkit.infer.text_sampling import Place, expected_words, read_places, substituted_lines  # noqa: E402
from voxkit.search.ngram import NgramModel  # noqa: E402

TEXTS = ["HEAL ME NOW", "PUSH THE LEFT LANE", "WARD AT DRAGON", "HEAL THE DRAGON"]
WORDS = "heal me now push the left lane ward at dragon".split()
PIECES = ["^", *(f"▁{w}" for w in (*WORDS, "map", "drag", "нет", "Now")), "on", "."]


pytestmark = pytest.mark.usefixtures("lm_in_float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random GPT-2 over words, as Hugging Face keeps them; no word of the text is "map", "drag" is mostly half of one."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    path = tmp_path_factory.mktemp("gpt")
    inner = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(PIECES)}, unk_token="^"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=True)
    transformers.PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="^").save_pretrained(path)
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=len(PIECES), n_positions=64, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0, initializer_range=0.1,
        tie_word_embeddings=False))
    with torch.no_grad():  # behind "drag" comes "on"
        embedding = model.transformer.wte.weight
        embedding[PIECES.index("▁drag")] = 0
        embedding[PIECES.index("▁drag"), 0] = 30.0
        model.lm_head.weight[:, 0] = 0
        model.lm_head.weight[PIECES.index("on"), 0] = 3.0
    model.save_pretrained(path)
    return path


def places_of(lm, texts=TEXTS, **options):
    return [place for batch in expected_words(lm, texts, **options) for place in batch]


def test_words_are_drawn_from_the_models_distribution_in_context(folder):
    lm = PretrainedLM.load(str(folder))
    places = places_of(lm, draws=4000, window=64)
    assert len(places) == sum(len(text.split()) for text in TEXTS)
    assert places[0].context == ("<s>",) and places[2].context == ("<s>", "HEAL", "ME") and places[3].context == ("<s>",)
    ids = [lm.start, *lm.tokenizer(" " + " ".join(TEXTS[:2]).lower(), add_special_tokens=False).input_ids]
    with torch.no_grad():
        p = lm.model(torch.tensor([ids[:6]])).logits[0, -1].softmax(-1)  # before "left": the model has seen the first text too
    words = [*WORDS, "map"]
    ending = {}
    begins = [i for i, piece in enumerate(PIECES) if piece.startswith("▁") or piece in "^."]
    for word in words:
        with torch.no_grad():
            ending[word] = float(lm.model(torch.tensor([[lm.start, PIECES.index(f"▁{word}")]])).logits[0, -1].softmax(-1)[begins].sum())
    expected = torch.tensor([float(p[PIECES.index(f"▁{word}")]) * ending[word] for word in words])
    found = places[5]
    assert found.context == ("<s>", "PUSH", "THE")
    drawn = torch.tensor([found.words[word.upper()] for word in words], dtype=torch.float)
    assert torch.allclose(drawn / drawn.sum(), expected / expected.sum(), atol=0.04)
    assert set(found.words) <= {word.upper() for word in (*words, "drag")}  # neither other scripts, nor parts, nor names
    assert sum(place.words["DRAG"] for place in places) < 0.2 * sum(place.words["MAP"] for place in places)


def test_windows_and_seeds(folder):
    lm = PretrainedLM.load(str(folder))
    short = places_of(lm, draws=3, window=8, batch=2)
    assert [place.context for place in short] == [place.context for place in places_of(lm, draws=3, window=64)]
    assert short == places_of(lm, draws=3, window=8, batch=2)
    assert short != places_of(lm, draws=3, window=8, batch=2, seed=1)
    long = "HEAL ME NOW PUSH THE LEFT LANE WARD AT DRAGON"
    assert places_of(lm, [long], draws=1)[9].context == tuple(long.split()[1:9])
    with pytest.raises(ValueError, match="no text"):
        places_of(lm, [" "])
    with pytest.raises(ValueError, match="no piece of its vocabulary"):
        places_of(lm, ["ЛЕС"])


def test_commands_make_an_ngram_that_knows_words_of_the_model(folder, tmp_path, capsys):
    text, sampled, arpa = tmp_path / "text", tmp_path / "new" / "sampled.jsonl", tmp_path / "lm.arpa"
    text.write_text("\n".join(TEXTS))
    assert main(["lm", "sample", "--model", str(folder), "--text", str(text), "--out", str(sampled), "--draws", "20"]) == 0
    assert "words at 13 places of 4 texts" in capsys.readouterr().out and len(list(sampled.parent.iterdir())) == 1
    assert main(["lm", "train", "--text", str(text), "--sampled", str(sampled), "--order", "3", "--out", str(arpa)]) == 0
    assert "MAP" in NgramModel.read(arpa).vocabulary
    assert main(["lm", "sample", "--model", str(folder), "--text", str(text), "--out", str(sampled), "--draws", "0"]) != 0
    with sampled.open("a") as file:
        file.write(json.dumps({"context": "<s>"}) + "\n")
    assert main(["lm", "train", "--text", str(text), "--sampled", str(sampled), "--out", str(arpa)]) != 0
    assert "line 14" in capsys.readouterr().err


def test_places_are_read_as_continuations(folder, tmp_path):
    file = tmp_path / "sampled.jsonl"
    file.write_text(Place(("<s>", "HEAL"), Counter(ME=2)).line() + Place(("THE", "LEFT"), Counter(LANE=1, MAP=3)).line())
    assert list(read_places(file, list)) == [(["<s>", *"HEAL"], list("ME"), 2), (list("THE LEFT"), list("LANE"), 1),
                                             (list("THE LEFT"), list("MAP"), 3)]


def places(path, texts, drawn):
    """A file as `voxkit lm sample` writes it, with the same draws at every place."""
    words = [text.split() for text in texts]
    path.write_text("".join(Place(("<s>", *line[:n])[-8:], Counter(drawn)).line() for line in words for n in range(len(line))))
    return path


def test_words_give_way_to_those_said_least(tmp_path):
    texts = ["HEAL ME NOW", "", "PUSH THE LEFT LANE OF THE WHOLE LARGE MAP TODAY"]
    file = places(tmp_path / "sampled.jsonl", texts, {"DRAGON": 9, "TOWER": 1, "NEST": 1})
    lines = [line.split() for line in substituted_lines(texts, file, 6, share=1.0)]
    assert sorted(map(len, lines)) == [3, 3, 3, 10, 10, 10]
    assert {len(line) for line in lines[:2]} == {3, 10}  # every text before one comes again
    said = Counter(word for line in lines for word in line)
    assert said == {"DRAGON": 13, "TOWER": 13, "NEST": 13}
    half = list(substituted_lines(texts, file, 200, share=0.5, seed=1))
    words = [word for line in half for word in line.split()]
    kept = sum(word in " ".join(texts).split() for word in words) / len(words)
    assert 0.44 < kept < 0.56
    again, other = (list(substituted_lines(texts, file, 200, share=0.5, seed=seed)) for seed in (1, 2))
    assert half == again != other


def test_what_the_text_has_counts_as_said(tmp_path):
    texts = ["NEST NEST NEST NEST", "HEAL ME"]
    file = places(tmp_path / "sampled.jsonl", texts, {"NEST": 9, "TOWER": 1, "MAP": 1})
    assert Counter(" ".join(substituted_lines(texts, file, 2, share=1.0)).split()) == {"TOWER": 3, "MAP": 3}


def test_substitute_writes_lines_and_refuses_other_texts(tmp_path, capsys):
    text, out = tmp_path / "text.txt", tmp_path / "lines.txt"
    text.write_text("\n".join(TEXTS), encoding="utf-8")
    file = places(tmp_path / "sampled.jsonl", TEXTS, {"DRAGON": 1})
    command = ["lm", "substitute", "--text", str(text), "--sampled", str(file), "--out", str(out)]
    assert main([*command, "--lines", "5"]) == 0
    assert "5 lines" in capsys.readouterr().out and len(out.read_text(encoding="utf-8").splitlines()) == 5
    for wrong in (["--lines", "0"], ["--share", "0"], ["--share", "1.5"]):
        assert main([*command, *wrong]) == 2 and wrong[0] in capsys.readouterr().err
    text.write_text("\n".join([*TEXTS, "AND ONE MORE"]), encoding="utf-8")
    assert main(command) == 2 and "it ends where 'AND' of 'AND ONE MORE' should follow; run `voxkit lm sample`" in capsys.readouterr().err
    text.write_text("\n".join(reversed(TEXTS)), encoding="utf-8")
    assert main(command) == 2 and "is of other text than this" in capsys.readouterr().err
    text.write_text("\n".join(TEXTS[:-1]), encoding="utf-8")
    assert main(command) == 2 and "goes on after the last line" in capsys.readouterr().err
