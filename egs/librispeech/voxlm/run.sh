#!/usr/bin/env bash
# VoxLM on LibriSpeech: a pretrained audio encoder, CTC over a language model's own tokens, LoRA, word times.
#
#   ./run.sh --encoder /path/to/whisper-base --llm /path/to/gemma3-270m       five hours of speech on two CPU cores
#   ./run.sh --parts full --size "" --variant voxlm-2b --ngpu 8               Whisper small and Qwen2 1.5B, 960 h
set -euo pipefail
cd "$(dirname "$0")"

stage=0                        # first stage to run
stop_stage=7                   # last stage to run
ngpu=auto                      # training processes, one per GPU; auto: one GPU or two on a CPU; 0: one on the CPU
corpus=librispeech             # a module of voxkit/data/corpora
corpus_dir=                    # a tree that is there; empty downloads it
parts=mini                     # which parts of it: mini, full, or names such as train-clean-100
train_sets="train-clean-5"     # sets to train on
dev_sets="dev-clean-2"         # for the WER during training, and calibration
test_sets="test-clean-2"       # decoded and scored in stage 6
domain_sets=                   # sets of stage 5; empty: no domain
text=                          # text files for phase 0b besides the transcripts
noise=                         # folder of recordings without speech, for the clips labeled empty
nonspeech_minutes=20           # of these clips; 5 to 10 % of the speech
size=mini_                     # configurations conf/${size}phase*.yaml: "mini_" for CPU, "" for the large ones
variant=                       # of conf/, laid over them: voxlm-2b, voxlm-4b-multilingual, ...
encoder=                       # Hugging Face name or folder of the encoder; empty: as the configuration says
llm=                           # likewise of the language model
clock=                         # Whisper folder or name whose word times phase 2 learns from; empty: this recipe's own CTC
methods="greedy generate"      # searches in stage 6
prepare_options="--text lower" # further options of voxkit prepare: language models write small letters
train_options=                 # further key=value for training
data=data                      # where prepared data goes
exp=exp                        # where runs go

. ../../../tools/recipe.sh
parse_options "$@"

listed() { echo $* | tr ' ' ,; }
overrides=("data.data_dir=$data" "tokenizer=$data/tokens" "data.dev=[$(listed $dev_sets)]")
if [ -n "$encoder" ]; then overrides+=("model.front_end.pretrained.name=$encoder"); fi
if [ -n "$llm" ]; then overrides+=("model.llm.name=$llm"); fi
overlay=${variant:+conf/$variant.yaml}
last=${domain_sets:+domain}
last=${last:-phase2}
phase() {  # phase NAME BEFORE SETS: train one, from the one before
  run $launch train --config "conf/$size$1.yaml" $overlay --exp "$exp" ${2:+--init "$exp/$2"} "${overrides[@]}" \
    "data.train=[$(listed $3)]" $train_options
}

corpus_stages

if stage 1 "Clips in which nobody speaks"; then
  run voxkit prepare nonspeech --out "$data" --minutes "$nonspeech_minutes" ${noise:+--folders "$noise"}
fi

if stage 2 "Those of the language model's tokens that the texts use"; then
  [ -n "$llm" ] || die "--llm: the folder of the language model, whose tokenizer.json is read (hf download NAME --local-dir FOLDER)"
  cuts_of "$data" $train_sets $domain_sets
  run voxkit tokenize --kind llm --llm "$llm" --cuts "${cuts[@]}" --out "$data/tokens"
fi

if stage 3 "Train: CTC, LoRA on text, both"; then
  phase phase0 "" "$train_sets"
  phase phase0b phase0 "$train_sets $text"
  phase phase1 phase0b "$train_sets nonspeech"
fi

if stage 4 "Train: word times"; then
  for set in $train_sets; do
    how=(--method ctc)
    [ -z "$clock" ] || how=(--method whisper)
    [ -f "$data/cuts_${set}_timed.jsonl.gz" ] || run voxkit align "${clock:-$exp/phase1}" "${how[@]}" \
      --cuts "$data/cuts_$set.jsonl.gz" --out-cuts "$data/cuts_${set}_timed.jsonl.gz" || log "some of $set could not be aligned"
  done
  phase phase2 phase1 "$(for set in $train_sets; do echo "${set}_timed"; done)"
fi

if [ -n "$domain_sets" ] && stage 5 "Train: the domain, from its text, then with its audio"; then
  run $launch train --config "conf/${size}phase0b.yaml" $overlay --name domain_text --exp "$exp" --init "$exp/phase2" "${overrides[@]}" \
    "data.train=[$(listed $domain_sets $text)]" $train_options
  run $launch train --config "conf/${size}phase1.yaml" $overlay --name domain --exp "$exp" --init "$exp/domain_text" "${overrides[@]}" \
    "data.train=[$(listed $domain_sets nonspeech)]" $train_options
fi

if stage 6 "Decode and score"; then
  run voxkit decode "$exp/$last" --data-dir "$data" --sets $test_sets --methods $methods --calibrate "${dev_sets%% *}"
  run voxkit hallucinate "$exp/$last" --methods generate ${noise:+--folders "$noise"}
fi

if stage 7 "Export: encoder and CTC as ONNX, the language model as a folder of its own"; then
  run voxkit export "$exp/$last" --out "$exp/export" --data-dir "$data" --check "${test_sets%% *}"
fi
