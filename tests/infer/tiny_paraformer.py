"""A run of a tiny Paraformer that has learned its words, and the audio it knows them from: tones, one for each letter."""

from pathlib import Path

import lhotse
import numpy as np
import soundfile
import torch

from voxkit import config as configuration
from voxkit.audio.fbank import Fbank
from voxkit.audio.io import read_audio
from voxkit.batch import Batch, Padded
from voxkit.checkpoint.format import write_checkpoint
from voxkit.run_config import make_setup
from voxkit.text.sentencepiece import train_characters

WORDS = ("heal", "me", "ward", "now")
TONES = {letter: 300.0 * 1.22 ** n for n, letter in enumerate(sorted(set("".join(WORDS))))}
LETTER, PAUSE = 0.16, 0.12  # seconds
MODEL = {"front_end": {"kind": "stacked", "fbank_bins": 24, "stack": 4, "stride": 4, "subsampling_dim": 32, "spec_augment": {"prob": 0.0}},
         "encoder": {"kind": "conformer", "dim": 32, "heads": 2, "ffn": 64, "layers": 1, "kernel": 5},
         "decoder": {"dim": 32, "heads": 2, "ffn": 64, "layers": 1}, "dropout": 0.0, "glancing": {"start": 0.3, "end": 0.0, "steps": 100},
         "loss": {"label_smoothing": 0.0}}


def say(text: str, seed: int) -> tuple[np.ndarray, list[tuple[str, float, float]]]:
    """Samples at 16 kHz, and the words with beginning and end."""
    rng = np.random.default_rng(seed)
    parts, words, at = [], [], 0.0
    for word in text.split():
        parts.append(np.zeros(round(16000 * PAUSE)))
        for letter in word:
            t = np.arange(round(16000 * LETTER)) / 16000
            parts.append(0.3 * np.sin(2 * np.pi * TONES[letter] * t) * np.hanning(len(t)))
        words.append((word, at + PAUSE, at + PAUSE + LETTER * len(word)))
        at += PAUSE + LETTER * len(word)
    wave = np.concatenate([*parts, np.zeros(round(16000 * PAUSE))])
    return (wave + 0.002 * rng.standard_normal(len(wave))).astype("float32"), words


def make_run(root: Path) -> None:
    """Below `root`: exp/tiny, and data/ with the sets test (the text is what was said), doubtful (in a third of the utterances it is not)
    and matrices (doubtful as features, without audio)."""
    (root / "data").mkdir()
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 2)) for _ in range(12)]
    sets: dict[str, list] = {"test": [], "doubtful": [], "matrices": []}
    fbank = Fbank(MODEL["front_end"]["fbank_bins"])
    for i, text in enumerate(texts):
        path = root / "data" / f"u{i}.wav"
        wave, words = say(text, i)
        soundfile.write(path, wave, 16000)
        items = [lhotse.supervision.AlignmentItem(w, s, e - s) for w, s, e in words]
        doubtful = text if i % 3 else " ".join(reversed(WORDS[:2]))
        for name, written in (("test", text), ("doubtful", doubtful), ("matrices", doubtful)):
            cut = lhotse.Recording.from_file(path, recording_id=f"u{i}").to_cut()
            cut.id = f"u{i}"
            if name == "matrices":
                cut = _as_features(cut, fbank(torch.from_numpy(wave)[None], torch.tensor([len(wave)]))[0][0].numpy(), root / "data")
            cut.supervisions = [lhotse.SupervisionSegment(f"u{i}", f"u{i}", 0, cut.duration, text=written, speaker=f"s{i % 2}",
                                                          alignment={"word": items})]
            sets[name].append(cut)
    for name, cuts in sets.items():
        lhotse.CutSet.from_cuts(cuts).to_file(root / "data" / f"cuts_{name}.jsonl.gz")
    tokenizer = train_characters([" ".join(WORDS)], root / "data" / "tokens")
    (root / "text.txt").write_text("\n".join(texts) + "\n")
    setup = make_setup(configuration.OmegaConf.create({
        "system": "paraformer", "model": MODEL, "data": {"data_dir": str(root / "data"), "num_workers": 0, "max_duration": 10}}))
    torch.manual_seed(0)
    model = setup.build_model(tokenizer.size)
    _learn(model, _batch(root, texts, tokenizer))
    extra = [lambda d: configuration.save(setup.as_mapping(), d / "config.yaml"), lambda d: tokenizer.save(d / "tokenizer.model")]
    write_checkpoint(root / "exp" / "tiny" / "checkpoints", model, {"step": 1, "tokenizer": tokenizer.fingerprint()},
                     save_extra=lambda d: [write(d) for write in extra])


def _as_features(cut, values: np.ndarray, folder: Path):
    np.save(folder / f"{cut.id}.npy", values)
    features = lhotse.Features(type="fbank", num_frames=len(values), num_features=values.shape[1], frame_shift=0.01, sampling_rate=16000,
                               start=0.0, duration=len(values) / 100, storage_type="numpy_files", storage_path=str(folder),
                               storage_key=f"{cut.id}.npy", recording_id=cut.id, channels=0)
    return lhotse.MonoCut(id=cut.id, start=0.0, duration=features.duration, channel=0, features=features)


def _batch(root: Path, texts: list[str], tokenizer) -> Batch:
    waves = [read_audio(root / "data" / f"u{i}.wav")[0] for i in range(len(texts))]
    tokens = [torch.tensor(tokenizer.encode(t)) for t in texts]
    return Batch([f"u{i}" for i in range(len(texts))], audio=Padded.of(waves), texts=texts, tokens=Padded.of(tokens))


def _learn(model, batch: Batch, steps: int = 90) -> None:
    optimizer = torch.optim.Adam(model.train().parameters(), 5e-3)
    for step in range(steps):
        model.set_step(step)
        optimizer.zero_grad()
        model.loss(batch).total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    model.eval()
