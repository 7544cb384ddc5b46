"""`voxkit decode`: transcribe test sets with a checkpoint by one or more searches; hypotheses, WER with interval and speed for each. With
--words, and where the cuts know when their words are said, also how far the found times are from the true ones."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voxkit.hypothesis import Hypothesis
    from voxkit.text.tokenizer import Tokenizer

HELP = "transcribe test sets with a checkpoint"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("decode", help=HELP, description=__doc__)
    parser.add_argument("checkpoint", help="a checkpoint, a run, or exp/NAME for the newest run of that name")
    parser.add_argument("--sets", nargs="+", required=True, help="prepared sets (names, or paths of cuts)")
    parser.add_argument("--data-dir", help="where they are; by default as in training")
    parser.add_argument("--methods", nargs="+", default=None, help="greedy, prefix_beam, rescoring; of an autoregressive decoder also "
                        "attention, joint; of a parallel one beam")
    parser.add_argument("--beam", type=int)
    parser.add_argument("--ctc-weight", type=float, help="of the CTC score in joint decoding and rescoring")
    parser.add_argument("--lm", help="n-gram over the tokens (ARPA, `voxkit lm train`)")
    parser.add_argument("--lm-weight", type=float)
    parser.add_argument("--length-bonus", type=float, help="per token")
    parser.add_argument("--phrases", help="file of phrases to favour, one a line")
    parser.add_argument("--boost", type=float, default=1.5, help="of each token of a phrase, in nats")
    parser.add_argument("--words", action="store_true", help="word times and confidences in the JSON lines")
    parser.add_argument("--normalise", default="none", help="of references and hypotheses before scoring: none, librispeech, ...")
    parser.add_argument("--limit", type=int, default=0, help="only the first utterances of each set")
    parser.add_argument("--out", help="by default decode/ in the run")
    parser.add_argument("--device", default="auto")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="laid over the checkpoint's configuration")


def run(args: argparse.Namespace) -> int:
    import torch

    from voxkit.data.loader import build_eval_loader
    from voxkit.eval.table import append_csv, format_table
    from voxkit.eval.texts import write_texts
    from voxkit.eval.wer import score
    from voxkit.infer.checkpoint import load_checkpoint
    from voxkit.infer.recognizer import Recognizer, SearchOptions
    from voxkit.training import read_sets

    device = ("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device
    loaded = load_checkpoint(args.checkpoint, device, args.overrides)
    config = loaded.recipe.config
    recognizer = Recognizer(loaded.model, loaded.tokenizer, device)
    out = Path(args.out) if args.out else loaded.path.parent.parent / "decode"
    out.mkdir(parents=True, exist_ok=True)
    lm = recognizer.language_model(args.lm) if args.lm else None
    context = None
    if args.phrases:
        lines = [line.strip() for line in Path(args.phrases).read_text(encoding="utf-8").splitlines()]
        context = recognizer.phrases([line for line in lines if line], args.boost)
    rows = []
    for name in args.sets:
        cuts = read_sets(args.data_dir or config.data.data_dir, [name])
        if args.limit:
            cuts = cuts.subset(first=min(args.limit, len(cuts)))
        speakers = {c.id: c.supervisions[0].speaker or c.id for c in cuts}
        seconds = sum(c.duration for c in cuts)
        for method in args.methods or [config.decode.method]:
            fused = method != "greedy"
            options = SearchOptions(
                method, args.beam or config.decode.beam, config.decode.ctc_weight if args.ctc_weight is None else args.ctc_weight,
                lm=lm if fused else None, lm_weight=config.decode.lm_weight if args.lm_weight is None else args.lm_weight,
                context=context if fused else None,
                length_bonus=config.decode.length_bonus if args.length_bonus is None else args.length_bonus, words=args.words)
            references, hypotheses, details, found = {}, {}, [], {}
            began = time.perf_counter()
            loader = build_eval_loader(cuts, loaded.tokenizer, config.data)
            for batch in loader:
                for id, text, hypothesis in zip(batch.ids, batch.texts or [], recognizer.recognize(batch, options)):
                    references[id], hypotheses[id], found[id] = text, hypothesis.text, hypothesis
                    details.append({"id": id, "reference": text, **hypothesis.to_json()})
            if not references:
                raise ValueError(f"set {name}: nothing could be decoded; it is empty, or none of its audio can be read")
            for failed, reason in loader.failures.items():
                print(f"{failed}: not decoded: {reason}")
            elapsed = time.perf_counter() - began
            result = score(references, hypotheses, normalise=args.normalise)
            low, high = result.interval(speakers)
            fusion = (f"_lm{options.lm_weight:g}" if options.lm else "") + ("_phrases" if options.context else "")
            label = f"{Path(name).name}_{method}{fusion}"
            write_texts(out / f"{label}.tsv", hypotheses)
            write_texts(out / f"{Path(name).name}_reference.tsv", references)
            (out / f"{label}.jsonl").write_text("".join(json.dumps(d, ensure_ascii=False) + "\n" for d in details), encoding="utf-8")
            row = result.row(set=name, method=label.removeprefix(Path(name).name + "_"))
            row = {"set": row.pop("set"), "method": row.pop("method"), "beam": options.beam if method != "greedy" else "",
                   "WER": row.pop("WER"), "95 %": f"{100 * low:.2f}-{100 * high:.2f}", **row,
                   "TER": f"{100 * token_error_rate(references, found, loaded.tokenizer):.2f}", "RTF": f"{elapsed / seconds:.3f}"}
            rows.append(row)
            if args.words:
                row |= boundary_columns(cuts, found)
            append_csv(out / "results.csv", {**row, "checkpoint": str(loaded.path), "step": loaded.meta.get("step", "")})
    print(format_table(rows, title=f"{loaded.path}"))
    print(f"hypotheses and results.csv: {out}")
    return 0


def token_error_rate(references: dict[str, str], found: dict[str, Hypothesis], tokenizer: Tokenizer) -> float:
    """Edit distance in tokens over the tokens of the references: 1 - token accuracy."""
    from voxkit.eval.wer import edit_errors

    tokens = {id: tokenizer.encode(text) for id, text in references.items()}
    return sum(edit_errors(tokens[id], found[id].tokens) for id in tokens) / max(1, sum(map(len, tokens.values())))


def boundary_columns(cuts: Any, found: dict[str, Hypothesis]) -> dict[str, str]:
    """Of the words that are right: mean and signed errors of their times in ms, F1 of boundaries within 50 ms; {} where no times are
    known."""
    from voxkit.eval.boundaries import boundary_scores
    from voxkit.hypothesis import Word

    true = {}
    for cut in cuts:
        items = (cut.supervisions[0].alignment or {}).get("word")
        if items and cut.id in found:
            true[cut.id] = [Word(item.symbol, item.start, item.end, 1.0) for item in items]
    if not true:
        return {}
    result = boundary_scores(list(true.values()), [found[id].words for id in true])
    return {"boundary ms": f"{1000 * result.error:.1f}", "start bias": f"{1000 * result.start_bias:+.1f}",
            "end bias": f"{1000 * result.end_bias:+.1f}", "F1 50 ms": f"{100 * result.f1:.1f}"}
