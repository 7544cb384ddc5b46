"""`voxkit decode`: transcribe test sets with a checkpoint by one or more searches; for each the hypotheses (with word times and calibrated
confidences), the WER with its interval, speed, latency and memory, and a record from which one command repeats it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voxkit.hypothesis import Hypothesis
    from voxkit.text.vocabulary import Vocabulary

HELP = "transcribe test sets with a checkpoint"
FORMATS = ("ctm", "srt", "vtt", "textgrid")


def add_parser(subparsers: Any) -> None:
    from voxkit.cli import search_options
    from voxkit.cli.decode_record import WHERE
    from voxkit.cli.record import add_again_argument
    from voxkit.cli.search_options import add_search_arguments, add_set_arguments, add_times_argument, add_tuned_argument

    parser = subparsers.add_parser("decode", help=HELP, description=__doc__)
    parser.add_argument("checkpoint", nargs="?", help="a checkpoint, a run, or exp/NAME for the newest run of that name")
    add_again_argument(parser, "a decoding", WHERE)
    parser.add_argument("--sets", nargs="+", default=[], help="prepared sets (names, or paths of cuts)")
    parser.add_argument("--methods", nargs="+", default=None,
                        help="greedy, prefix_beam, rescoring; of an autoregressive decoder also attention, joint; of a parallel one "
                             "guided, beam, ctc_greedy; with k2: k2_ctc, k2_hlg, k2_nbest, k2_nbest_rescoring, k2_rescoring")
    add_search_arguments(parser)
    add_tuned_argument(parser)
    add_times_argument(parser)
    parser.add_argument("--words", action=argparse.BooleanOptionalAction, default=True,
                        help="word times and confidences in the JSON lines, and in the table how good they are")
    parser.add_argument("--formats", nargs="+", default=[], choices=FORMATS, help="write words in these formats too")
    parser.add_argument("--calibrate", metavar="SET", help="first fit confidences (and word times, where the set knows them) on this set; "
                                                           "kept for later calls")
    parser.add_argument("--calibrate-limit", type=int, default=0, metavar="N", help="only the first utterances of that set")
    parser.add_argument("--latency", type=int, default=0, metavar="N", help="measure latency on N utterances, one at a time")
    search_options.add_chunk_arguments(
        parser, "decode utterance by utterance, as it is spoken, by greedy and prefix_beam; how long after its end a word was said",
        "chunk of the encoder: without --stream the whole utterance is decoded with that chunk, to the same result in less time; "
        "-1: without bound")
    add_set_arguments(parser, "decode/ in the run")


def run(args: argparse.Namespace) -> int:
    from voxkit.cli import decode_record, record

    if args.again:
        record.refuse_besides(args, add_parser, "decode", ("device", "data_dir", "out"))
        known = record.read(args.again, "decode", decode_record.WHERE)
        found = decode(decode_record.arguments(known, args))[0]
        return record.compare(known, *decode_record.compared(known, found), f"WER {found['result']['WER']}")
    if not args.checkpoint or not args.sets:
        raise ValueError("give a checkpoint and --sets, or --again with the record of a decoding")
    decode(args)
    return 0


def decode(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Decode every set by every method, print the table → the records."""
    from voxkit.checkpoint.loading import decode_dir
    from voxkit.cli import decode_record
    from voxkit.cli.fingerprint import sha256, sha256_of_texts
    from voxkit.cli.search_options import build_search, check_streaming, read_chunk
    from voxkit.data.sets import read_sets
    from voxkit.eval.normalise import normalisation
    from voxkit.eval.table import format_table
    from voxkit.infer.calibration import read_calibration, timing_of
    from voxkit.infer.checkpoint import load_checkpoint
    from voxkit.infer.decoding import decode_by_searches, model_size, stream_by_searches
    from voxkit.infer.recognizer import Recognizer
    from voxkit.train.distributed import choose_device

    device = choose_device(args.device)
    loaded = load_checkpoint(args.checkpoint, device, args.overrides)
    config = loaded.recipe.config
    recognizer = Recognizer(loaded.model, loaded.tokenizer, device)
    out = Path(args.out) if args.out else decode_dir(loaded.path)
    out.mkdir(parents=True, exist_ok=True)
    rule = normalisation(args.normalise)
    if not args.words and (args.formats or args.calibrate):
        raise ValueError("--no-words leaves out what --formats writes and --calibrate fits: leave it away")
    methods = args.methods or [config.decode.method]
    if args.stream:
        check_streaming(args, recognizer, methods)
        if args.latency:
            raise ValueError("--latency measures whole utterances; with --stream the table has its own delays: leave it away")
    chunk = read_chunk(args, recognizer)
    search = build_search(args, recognizer, config.decode, decode_dir(loaded.path), words=args.words)
    if chunk is not None:
        search.chunk = chunk.name(args.stream)
    search.check(methods)
    data_dir = args.data_dir or config.data.data_dir
    if args.calibrate:
        held_out = read_sets(data_dir, [args.calibrate], args.calibrate_limit)
        _calibrate(args, recognizer, search, methods, held_out, config.data, out, rule)
    fitted = read_calibration(out) or read_calibration(decode_dir(loaded.path))
    known = {method: search.fitted(fitted, method) for method in methods}
    for _, why in known.values():
        if search.options.words and why:
            print(f"confidences are not calibrated: {why}")
    if search.options.words and timing_of(fitted) is None and any(map(recognizer.timed_by_ctc, methods)):
        print("word times are not fitted, they are where CTC spikes: --calibrate, with a set that knows them, brings them to the words")
    weights, written = sha256(loaded.path / "model.safetensors"), []
    for name in args.sets:
        cuts = read_sets(data_dir, [name], args.limit)
        whole = _name(name) + (f"-first{args.limit}" if args.limit else "")  # a part never replaces the whole
        temperatures = {method: found["temperature"] if found else None for method, (found, _) in known.items()}
        searches = [search.of(method, temperature=temperatures[method] or 1.0, timing=timing_of(fitted)) for method in methods]
        if args.stream:
            decoded = stream_by_searches(recognizer, cuts, searches, config.data, name, chunk_ms=args.chunk_ms, left_ms=args.left_ms)
        else:
            decoded = decode_by_searches(recognizer, cuts, searches, config.data, name)
        for id, reason in decoded[0].failures.items():
            print(f"{id}: not decoded: {reason}")
        for method, options, found in zip(methods, searches, decoded):
            label, calibrated = search.label(method), temperatures[method] is not None
            row = {"set": whole, "method": label, "beam": options.beam if recognizer.method(method).beam else ""}
            row |= _scores(found, cuts, args.normalise)
            row |= {"TER": f"{100 * token_error_rate(found.references, found.hypotheses, loaded.tokenizer):.2f}", "RTF": f"{found.rtf:.3f}"}
            if options.words:
                row |= _word_scores(found, cuts, rule, calibrated)
            row |= delay_columns(cuts, found.changes)
            row |= _latency(args.latency, recognizer, cuts, options)
            row |= {"MB peak": f"{found.memory:.0f}", "MB model": f"{model_size(loaded.model):.1f}"}
            stem = f"{whole}_{label}"
            record = decode_record.of(out / f"{stem}.json", args, loaded, weights, name, search, options, row, data_dir, calibrated)
            record["texts"] = sha256_of_texts(found.texts)
            decode_record.set_aside(out, stem, record)
            _write(out, whole, stem, found, args.formats)
            decode_record.write(out / f"{stem}.json", record, str(loaded.path))
            written.append(record)
    print(format_table([record["result"] for record in written], title=f"{loaded.path}"))
    print(f"hypotheses, records and results.csv: {out}")
    return written


def _scores(found: Any, cuts: Any, normalise: str) -> dict[str, Any]:
    from voxkit.eval.table import interval_cell
    from voxkit.eval.wer import score

    result = score(found.references, found.texts, normalise=normalise)
    speakers = {c.id: c.supervisions[0].speaker or c.id for c in cuts}
    interval = result.interval(speakers if len(set(speakers.values())) > 1 else None)  # one speaker: over utterances
    row = result.row()
    return {"WER": row.pop("WER"), "95 %": interval_cell(interval), **row}


def token_error_rate(references: dict[str, str], found: dict[str, Hypothesis], tokenizer: Vocabulary) -> float:
    """Edit distance in tokens over the tokens of the references: 1 - token accuracy."""
    from voxkit.eval.wer import edit_errors

    tokens = {id: tokenizer.encode(text) for id, text in references.items()}
    return sum(edit_errors(tokens[id], found[id].tokens) for id in tokens) / max(1, sum(map(len, tokens.values())))


def _word_scores(found: Any, cuts: Any, rule: Any, calibrated: bool) -> dict[str, Any]:
    """Expected calibration error of the confidences (in brackets where no temperature was fitted), error of the word times where known."""
    from voxkit.eval.calibration import measured

    row: dict[str, Any] = {}
    quality = measured(found.references, {id: h.words for id, h in found.hypotheses.items()}, rule)
    if quality is not None:
        row["ECE"] = f"{100 * quality.error:.2f}" if calibrated else f"({100 * quality.error:.2f})"
    return row | boundary_columns(cuts, found.hypotheses)


def boundary_columns(cuts: Any, found: dict[str, Hypothesis]) -> dict[str, str]:
    """Of the words that are right: mean and signed errors of their times in ms, F1 of boundaries within 50 ms; {} where no times are
    known."""
    from voxkit.eval.boundaries import boundary_scores
    from voxkit.infer.calibration import true_words

    true = {c.id: words for c in cuts if c.id in found and (words := true_words(c))}
    if not true:
        return {}
    times = boundary_scores(list(true.values()), [found[id].words for id in true])
    return {"ms off": f"{1000 * times.error:.1f}", "start bias": f"{1000 * times.start_bias:+.1f}",
            "end bias": f"{1000 * times.end_bias:+.1f}", "F1 50 ms": f"{100 * times.f1:.1f}"}


def delay_columns(cuts: Any, changes: dict[str, list[tuple[float, str]]]) -> dict[str, str]:
    """Of the words of a streamed set that are right: milliseconds of audio from a word's end until it was said for good, median and 95th
    percentile; {} where no word times are known."""
    from math import ceil
    from statistics import median

    from voxkit.eval.delay import word_delays
    from voxkit.infer.calibration import true_words

    delays = sorted(1000 * d for c in cuts if c.id in changes and (words := true_words(c)) for d in word_delays(words, changes[c.id]))
    if not delays:
        return {}
    return {"said ms": f"{median(delays):.0f}", "said 95 % ms": f"{delays[ceil(0.95 * (len(delays) - 1))]:.0f}"}


def _latency(count: int, recognizer: Any, cuts: Any, options: Any) -> dict[str, Any]:
    import torch

    from voxkit.data.reader import load_samples
    from voxkit.infer.decoding import measure_latency

    if not count:
        return {}
    if not all(c.has_recording for c in cuts):
        print("latency is not measured: it takes audio, and the set holds features")
        return {}
    chosen = sorted(cuts, key=lambda c: c.duration)[len(cuts) // 2:][:count]  # of middling length
    found = measure_latency(recognizer, (torch.from_numpy(load_samples(cut)) for cut in chosen), options)
    if found is None:
        return {}
    return {"first ms": f"{found.first:.0f}", "end ms": f"{found.end:.0f}", "end 95 % ms": f"{found.end_95:.0f}"}


def _calibrate(args: argparse.Namespace, recognizer: Any, search: Any, methods: list[str], cuts: Any, data: Any, out: Path,
               rule: Any) -> None:
    from voxkit.eval.table import format_table
    from voxkit.infer.calibration import fit_confidence, read_calibration, true_words, write_calibration
    from voxkit.infer.decoding import decode_by_searches

    content = read_calibration(out)
    true = {c.id: words for c in cuts if (words := true_words(c))}
    heard = {c.id for c in cuts if c.has_recording}
    if true and (recognizer.model.heads.ctc is None or not true.keys() <= heard):
        print("word times are left as they are: fitting them takes a CTC head and audio (CIF's times need no fitting)")
    elif true:
        _fit_times(recognizer, cuts.filter(lambda c: c.id in true), true, content, args.calibrate)
    rows = []
    everything = decode_by_searches(recognizer, cuts, [search.of(method, temperature=1.0) for method in methods], data, args.calibrate)
    for method, decoded in zip(methods, everything):
        label = search.label(method)
        try:
            fitted = {**fit_confidence(decoded.references, decoded.hypotheses, rule), "set": args.calibrate,
                      "settings": search.settings(method)}
        except ValueError as error:
            print(f"confidences of {label} stay as they are: {error}")
            content.get("methods", {}).pop(label, None)
            continue
        content.setdefault("methods", {})[label] = fitted
        rows.append({"method": label, "temperature": f"{fitted['temperature']:.2f}", "ECE before": f"{100 * fitted['ece_before']:.2f}",
                     "ECE after": f"{100 * fitted['ece_after']:.2f}", "words": fitted["words"]})
    write_calibration(out, content)
    if rows:
        print(format_table(rows, title=f"confidences fitted on {args.calibrate}"))


def _fit_times(recognizer: Any, cuts: Any, true: dict[str, Any], content: dict[str, Any], name: str) -> None:
    """Fit word times and print how good they are; where that cannot be done, say why."""
    from voxkit.eval.table import format_table
    from voxkit.infer.alignment import align_cuts
    from voxkit.infer.calibration import fit_timing

    try:
        fitted = {**fit_timing(recognizer, align_cuts(recognizer, cuts), true), "set": name}
    except ValueError as error:
        print(f"word times stay as they are: {error}")
        return
    content["timing"] = fitted
    ways = (("frames as they are", "plain"), ("one shift for all words", "shifted"), ("a shift for each token, held out", "held_out"))
    print(format_table([{"word times": what, "ms off": f"{1000 * fitted[f'error_{key}']:.1f}",
                         "F1 at 50 ms": f"{100 * fitted[f'f1_{key}']:.1f}"} for what, key in ways if fitted[f"error_{key}"] is not None],
                       title=f"word times fitted on {name} ({fitted['words']} words)") + "\n")


def _write(out: Path, name: str, stem: str, found: Any, formats: list[str]) -> None:
    from voxkit import files
    from voxkit.align import formats as words
    from voxkit.eval.texts import write_texts

    write_texts(out / f"{stem}.tsv", found.texts)
    write_texts(out / f"{name}_reference.tsv", found.references)
    lines = [json.dumps({"id": id, "reference": found.references[id], **h.to_json()}, ensure_ascii=False)
             for id, h in found.hypotheses.items()]
    files.write_text(out / f"{stem}.jsonl", "".join(line + "\n" for line in lines))
    for kind in formats:
        words.write(out / f"{stem}.{words.suffix(kind)}", found.hypotheses, kind)


def _name(of_set: str) -> str:
    """A set's name, also where it is given as a path of cuts."""
    from voxkit.data.sets import split_share

    name, share = split_share(of_set)
    whole = Path(name).name.removeprefix("cuts_").removesuffix(".gz").removesuffix(".jsonl")
    return whole if share == 1 else f"{whole}-{share:g}"
