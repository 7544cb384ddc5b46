#!/usr/bin/env bash
# One command from a configuration to a VoxLM: prepares a folder of audio and transcripts, chooses the tokens, trains phases 0, 0b, 1 and 2.
#
#   tools/quick_train.sh CONFIG [--corpus FOLDER] [--out output] [--steps N] [key=value ...]
#
#   CONFIG   conf/custom.yaml after conf/custom.yaml.example; its `name` names the model
#   --corpus a folder that `voxkit prepare folder` takes (audio with a table, a Kaldi directory, lhotse manifests); without it the sets
#            that the configuration names are in its data.data_dir already
#   --out    where runs and models go: the model ends in OUT/models/NAME
#   --steps  at most so many steps of each phase, to try it
set -euo pipefail

usage() { sed -n -e '1d' -e '/^#/!q' -e 's/^# \{0,1\}//p' "$0"; }
case ${1:-} in ""|-h|--help) usage; exit 0 ;; esac
config=$1
shift
corpus= out=output steps= overrides=()
while [ $# -gt 0 ]; do
  case $1 in
    --corpus) corpus=${2:?--corpus needs a folder}; shift 2 ;;
    --out) out=${2:?--out needs a folder}; shift 2 ;;
    --steps) steps=${2:?--steps needs a number}; shift 2 ;;
    *=*) overrides+=("$1"); shift ;;
    *) echo "$0: what is '$1'?" >&2; usage >&2; exit 2 ;;
  esac
done
[ -f "$config" ] || { echo "$0: no configuration $config; copy egs/librispeech/voxlm/conf/custom.yaml.example" >&2; exit 2; }
option() {  # option KEY: what the configuration says
  python - "$config" "$1" ${overrides[@]+"${overrides[@]}"} <<'PY'
import sys

from omegaconf import OmegaConf

from voxkit import config

found = OmegaConf.select(config.load(sys.argv[1], sys.argv[3:]), sys.argv[2])
print(" ".join(found) if OmegaConf.is_list(found) else "" if found is None else found)
PY
}
name=$(option name) data=$(option data.data_dir) sets=$(option data.train) llm=$(option model.llm.name)
[ -d "$llm" ] || { echo "$0: model.llm.name: '$llm' is no folder; download it (hf download NAME --local-dir FOLDER)" >&2; exit 2; }
if [ -n "$corpus" ]; then
  voxkit prepare folder --corpus-dir "$corpus" --out "$data" --text lower
fi
cuts=()
for set in $sets; do cuts+=("$data/cuts_${set%%:*}.jsonl.gz"); done
voxkit prepare nonspeech --out "$data"
voxkit tokenize --kind llm --llm "$llm" --cuts "${cuts[@]}" --out "$data/tokens-$name"
common=("tokenizer=$data/tokens-$name" ${overrides[@]+"${overrides[@]}"} ${steps:+"train.max_steps=$steps"})
phase() {  # phase NAME BEFORE key=value...
  local phase=$1 before=$2
  shift 2
  voxkit train --config "$config" --exp "$out/runs" --name "$name-$phase" ${before:+--init "$out/runs/$name-$before"} "${common[@]}" "$@"
}
listed() { echo $* | tr ' ' ,; }
phase 0 "" "model.learns=[front_end,encoder,ctc]" model.loss.ctc=1 model.loss.transcript=0 decode.validation_method=greedy
phase 0b 0 "model.learns=[llm]" data.input=text
phase 1 0b "model.learns=[ctc,llm]" model.loss.text=0.5 "data.train=[$(listed $sets nonspeech)]"
timed=()
for set in $sets; do
  voxkit align "$out/runs/$name-1" --cuts "$data/cuts_${set%%:*}.jsonl.gz" --out-cuts "$data/cuts_${set%%:*}_timed.jsonl.gz" || true
  timed+=("${set%%:*}_timed")
done
phase 2 1 "model.learns=[alignment]" model.loss.ctc=0 model.loss.transcript=0 model.loss.alignment=1 "data.train=[$(listed ${timed[*]})]"
python - "$out/runs/$name-2" "$out/models/$name" <<'PY'
import sys

from voxkit import VoxLM

print(VoxLM.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2]))
PY
