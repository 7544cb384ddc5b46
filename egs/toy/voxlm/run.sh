#!/usr/bin/env bash
# VoxLM on the toy corpus: the toy VoxFormer's encoder (trained first where there is none), CTC over a language model's tokens, a small Llama
# from scratch, word times by an alignment head. Its own stages take some three minutes on two CPU cores.
set -euo pipefail
cd "$(dirname "$0")"

stage=0                        # first stage to run
stop_stage=7                   # last stage to run
ngpu=1                         # training processes (0: one on the CPU)
voxformer=../voxformer         # the recipe whose corpus, encoder and stage 1 this one begins with
prepared=$voxformer/data       # prepared sets, and the small pretrained encoder
init=$voxformer/exp/stage1     # run of VoxFormer whose front end and encoder phase 0 starts from
train_sets="train"             # sets to train on
dev_sets="dev"                 # for the WER during training
test_sets="test test_domain"   # decoded and scored in stage 6
domain_sets="train_domain train:0.6"  # for stage 5
nonspeech_minutes=2            # of clips in which nobody speaks, labeled empty
vocab_size=512                 # of the Llama's byte-level BPE
methods="greedy generate"      # searches in stage 6
train_options=                 # further key=value for training
data=data                      # where this recipe's own data go
exp=exp                        # where runs go

. ../../../tools/recipe.sh
parse_options "$@"

overrides=("data.data_dir=$prepared" "tokenizer=$data/tokens" "model.front_end.pretrained.name=$prepared/encoder" "model.llm.name=$data/llama"
  "data.dev=[$(echo $dev_sets | tr ' ' ,)]")
listed() { echo $* | tr ' ' ,; }

if stage 0 "Get the corpus, and VoxFormer's encoder"; then
  if compgen -G "${init%/*}/*_${init##*/}/checkpoints/best" > /dev/null && [ -f "$prepared/cuts_test.jsonl.gz" ]; then
    log "there: $init"
  else
    run "$voxformer/run.sh" --stage 0 --stop-stage 3
  fi
fi

if stage 1 "Prepare: clips in which nobody speaks"; then
  run voxkit prepare nonspeech --out "$prepared" --minutes "$nonspeech_minutes" --low 0.5 --high 3  # as long as what is said here
fi

if stage 2 "A small language model, and those of its tokens that the texts use"; then
  cuts_of "$prepared" $train_sets $domain_sets
  run python local/llama.py --text "${cuts[@]}" --out "$data/llama" --vocab-size "$vocab_size"
  run voxkit tokenize --kind llm --llm "$data/llama" --cuts "${cuts[@]}" --out "$data/tokens"
fi

if stage 3 "Train: CTC, language model on text, both"; then
  run $launch train --config conf/phase0.yaml --exp "$exp" --init "$init" "init_parts=[front_end,encoder]" "${overrides[@]}" \
    "data.train=[$(listed $train_sets)]" $train_options
  run $launch train --config conf/phase0b.yaml --exp "$exp" --init "$exp/phase0" "${overrides[@]}" \
    "data.train=[$(listed $train_sets)]" $train_options
  run $launch train --config conf/phase1.yaml --exp "$exp" --init "$exp/phase0b" "${overrides[@]}" \
    "data.train=[$(listed $train_sets nonspeech)]" $train_options
fi

if stage 4 "Train: word times"; then
  run $launch train --config conf/phase2.yaml --exp "$exp" --init "$exp/phase1" "${overrides[@]}" \
    "data.train=[$(listed $train_sets)]" $train_options
fi

if stage 5 "Train: the domain, from its text, then with its audio"; then
  run $launch train --config conf/domain_text.yaml --exp "$exp" --init "$exp/phase2" "${overrides[@]}" \
    "data.train=[$(listed $domain_sets)]" $train_options
  run $launch train --config conf/domain.yaml --exp "$exp" --init "$exp/domain_text" "${overrides[@]}" \
    "data.train=[$(listed $domain_sets nonspeech)]" $train_options
fi

if stage 6 "Decode and score"; then
  for run in phase2 domain; do
    run voxkit decode "$exp/$run" --data-dir "$prepared" --sets $test_sets --methods $methods --calibrate "${dev_sets%% *}"
  done
  run voxkit hallucinate "$exp/phase2" --methods generate
fi

if stage 6 "One recording"; then
  recording=$(find "$prepared/audio/test" -type f | sort | sed -n 1p)
  run voxkit transcribe "$exp/phase2" "$recording" --method generate --json
fi

if stage 7 "Export: the language model as a folder of its own"; then
  run voxkit export "$exp/phase2" --out "$exp/export" --data-dir "$prepared" --check "${test_sets%% *}"
fi
