"""The model card of an artifact: what it is, what was measured when it was made, what it may be used for."""

from __future__ import annotations

from typing import Any

from voxkit.export.parity import ENOUGH_WORDS, GateReport


def model_card(meta: dict[str, Any], report: GateReport, licenses: list[str], checked: list[str]) -> str:
    """Markdown.

    Args:
        meta: of the artifact; report: of its gate.
        licenses: of the data it was trained on, as who exports it states them.
        checked: names of the sets that the gate heard.
    """
    size = sum(about["bytes"] for about in meta["files"].values()) / 1e6
    lines = [f"# {meta['name']}", "", f"A {meta['system']} exported by voxkit {meta['made_with']['voxkit']} in {meta['precision']}, "
             f"{size:.1f} MB; it runs with onnxruntime and without torch:", "",
             "    voxkit transcribe THIS_FOLDER audio.wav" + (" --stream" if meta.get("streaming") else ""), ""]
    lines += ["## What it takes and says", "", *_facts(meta), ""]
    lines += ["## What was measured", "", *_measured(meta, report, checked), ""]
    lines += ["## Licenses", ""]
    lines += [f"* {license}" for license in licenses] or ["* Of the training data: not stated (`voxkit export --license` states it)."]
    if meta.get("encoder", "fbank") != "fbank":
        lines.append(f"* It holds the pretrained encoder {meta['encoder']}, under that one's own license.")
    return "\n".join(lines) + "\n"


def _facts(meta: dict[str, Any]) -> list[str]:
    out = [f"* Audio: one channel at {meta['sample_rate']} Hz; other rates are resampled.",
           f"* Heads: {', '.join(meta['heads'])}; {meta['vocab_size']} tokens; {1000 * meta['seconds_per_frame']:g} ms a frame."]
    if streaming := meta.get("streaming"):
        out.append(f"* Streaming: chunks of {streaming['chunk_ms']:g} ms that see {streaming['left_ms']:g} ms before them; "
                   f"{streaming['state_bytes'] / 1e6:.2f} MB of state for each session.")
    else:
        unit = meta["sample_rate"] if meta["input"] == "audio" else 100
        out.append(f"* Up to {meta['longest_input'] / unit:.0f} s at once; longer recordings are cut in silence.")
    if meta["precision"] == "fp16":
        out.append("* Weights are stored in fp16 and computed with in fp32.")
    if meta["precision"] == "int8":
        kept = meta.get("float32_in_int8", {})
        out.append(f"* INT8 weights of {meta['int8_bits']} bits; {sum(map(len, kept.values()))} matrices stay in floating point, since "
                   "their activations do not bear INT8.")
    return out


def _measured(meta: dict[str, Any], report: GateReport, checked: list[str]) -> list[str]:
    machine = meta["made_with"]["machine"]
    speed = f"* Real-time factor {report.rtf:.4f} with {report.threads} thread(s) on {machine} (torch {report.rtf_torch:.4f})."
    if report.verified != "text":
        return ["* **Text not verified**: no speech was given (`--check SET`); scores were compared on noise alone.",
                f"* Scores differ from the model's by at most {report.max_difference:.1e} nats.", speed]
    out = [f"* Heard: {report.utterances} utterances, {report.seconds:.0f} s, of {', '.join(checked) or 'the caller'}."]
    if report.wer is None or report.wer_torch is None:
        out.append("* WER: the check set has no transcripts.")
    else:
        out.append(f"* WER {_rate(report.wer)} over {report.words} words; the model it was made from {_rate(report.wer_torch)}.")
        if report.words < ENOUGH_WORDS:
            out.append(f"* Fewer than {ENOUGH_WORDS} words were checked: a difference of half a percent cannot be told from chance "
                       "(the intervals are of 95 %).")
    other = ", ".join(f"{method} {len(ids)}" for method, ids in report.different_texts.items())
    return [*out, f"* Texts other than the model's: {other}; scores differ by at most {report.max_difference:.1e} nats.", speed]


def _rate(value: tuple[float, float, float]) -> str:
    return f"{100 * value[0]:.2f} % [{100 * value[1]:.2f}, {100 * value[2]:.2f}]"
