"""A VoxFormer of a recipe's sizes with random weights, as a checkpoint: what an artifact weighs and costs does not depend on training.

    python -m benchmarks.random_voxformer --config egs/librispeech/voxformer/conf/stage1.yaml --wavlm-base --work /tmp/size

exports one in int8 and fp16 and prints what the artifacts weigh.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.figures import Figures
from voxkit import config as configuration
from voxkit.checkpoint.format import write_checkpoint
from voxkit.eval.table import format_table
from voxkit.export.package import ExportOptions, export_checkpoint
from voxkit.infer.checkpoint import load_checkpoint
from voxkit.optional import require
from voxkit.run_config import make_setup
from voxkit.text.sentencepiece import train_bpe

_SYLLABLES = "ba ne ti ro ku sha len mor vis dre plo gam fin cre jus wol yet zan qui hex".split()


def random_voxformer(config: Path, encoder: Path, folder: Path, pieces: int = 300) -> Path:
    """Write one → its checkpoint.

    Args:
        config: of a recipe; encoder: the folder of its pretrained encoder; folder: of the run; pieces: of the vocabulary, of made-up words.
    """
    rng = random.Random(0)
    words = ["".join(rng.choices(_SYLLABLES, k=rng.randint(1, 3))) for _ in range(3200)]
    vocabulary = train_bpe([" ".join(words[i:i + 8]) for i in range(0, len(words), 8)], pieces, folder / "bpe")
    setup = make_setup(configuration.load(config, [f"model.front_end.pretrained.name={encoder}", "cache=false"]))
    torch.manual_seed(0)
    model = setup.build_model(vocabulary)

    def extra(directory: Path) -> None:
        configuration.save(setup.as_mapping(), directory / "config.yaml")
        vocabulary.save(directory / "tokenizer.model")

    return write_checkpoint(folder / "checkpoints", model, {"step": 0}, save_extra=extra).path


def random_wavlm(folder: Path) -> Path:
    """A WavLM Base of random weights as a Hugging Face folder."""
    transformers = require("transformers", "pretrained", why="an encoder of WavLM Base's sizes")
    if not (folder / "config.json").is_file():
        torch.manual_seed(0)
        transformers.WavLMModel(transformers.WavLMConfig()).save_pretrained(folder)
    return folder


def main(argv: Sequence[str] | None = None) -> None:
    """Export, and print the sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, type=Path)
    parser.add_argument("--encoder", type=Path, help="folder of the pretrained encoder")
    parser.add_argument("--wavlm-base", action="store_true", help="one of WavLM Base's sizes, made here")
    parser.add_argument("--work", required=True, type=Path, help="folder for checkpoint and artifacts")
    parser.add_argument("--precisions", nargs="+", default=["int8", "fp16"], choices=["fp32", "fp16", "int8"])
    parser.add_argument("--decoder", action=argparse.BooleanOptionalAction, default=True, help="with the attention decoder")
    Figures.add_argument(parser)
    args = parser.parse_args(argv)
    if bool(args.encoder) == args.wavlm_base:
        parser.error("give either --encoder or --wavlm-base")
    encoder = args.encoder or random_wavlm(args.work / "wavlm-base")
    loaded = load_checkpoint(random_voxformer(args.config, encoder, args.work / "random"))
    figures, rows = Figures("random_voxformer", args.json), []
    for precision in args.precisions:
        out, report = export_checkpoint(loaded, args.work / precision, (), ExportOptions(precision, decoder=args.decoder))
        sizes = {path.name: path.stat().st_size / 1e6 for path in sorted(out.glob("*.onnx"))}
        rows.append({"precision": precision, **{name: f"{size:.1f}" for name, size in sizes.items()},
                     "MB in all": f"{sum(sizes.values()):.1f}", "score diff.": f"{report.max_difference:.1e}",
                     "gate": "FAILED" if report.problems else "passed"})
        figures.add(f"{precision}, {args.config.stem}", [sum(sizes.values())], "MB")
    millions = sum(p.numel() for p in loaded.model.parameters()) / 1e6
    print(format_table(rows, title=f"{args.config}, encoder {encoder.name}, {millions:.0f} M parameters, random weights"))


if __name__ == "__main__":
    main()
