#!/usr/bin/env bash
# VoxFormer on a toy corpus of spoken game commands, synthesized on the spot: every stage of the large recipes in about four minutes on
# two CPU cores. dev and test hold out sentences and voices.
set -euo pipefail
cd "$(dirname "$0")"

stage=0                        # first stage to run
stop_stage=7                   # last stage to run
ngpu=1                         # training processes: networks so small gain nothing by more (0: one on the CPU)
corpus=toy                     # a module of voxkit/data/corpora
corpus_dir=                    # for another corpus than toy: where the corpus is
parts=                         # which parts of it
train_sets="train"             # sets to train on
dev_sets="dev"                 # for the WER during training
test_sets="test test_domain"   # decoded and scored in stage 6
domain_sets="train_domain train:0.6"  # sets for stage 3, the second in part
vocab_size=300                 # of the SentencePiece BPE
methods="greedy joint"         # searches in stage 6
lm_order=0                     # of an n-gram from the training text that stage 6 decodes with besides, e.g. 3; 0: none
lm_options="--lm-weight 0.3 --length-bonus 0.5"  # with it
prepare_options=               # further options of voxkit prepare, e.g. "--num-train 200"
alone=                         # configuration trained in place of the three stages: "transducer" or "streaming" (their heads say how to go on)
chunk_ms=320                   # of the streams that stage 7 makes with --alone streaming: 160, 320 or 640
encoder_epochs=1               # of the small encoder made in stage 2
train_options=                 # further key=value for training
export_options="--max-wer-increase 1"  # of voxkit export; 1,334 words are too few to hold INT8 to half a percent
verify_options="--utterances 50 --max-wer-increase 2"  # of voxkit verify
data=data                      # where prepared data goes
exp=exp                        # where runs go

. ../../../tools/recipe.sh
parse_options "$@"

overrides=("data.data_dir=$data" "tokenizer=$data/bpe" "model.front_end.pretrained.name=$data/encoder"
  "data.dev=[$(echo $dev_sets | tr ' ' ,)]")
all_sets=$(echo $train_sets $domain_sets | tr ' ' '\n' | sed 's/:.*//' | sort -u)
train="data.train=[$(echo $train_sets | tr ' ' ,)]"
last=${alone:-stage3}          # the run that is decoded and exported
made=$exp/${alone:+$alone-}    # its exports: exp/onnx, exp/int8; exp/streaming-onnx ...

if stage 0 "Get the corpus"; then
  log "nothing to download: it is synthesized in stage 1"
fi

if stage 1 "Prepare: synthesize, validate, write cuts"; then
  run voxkit prepare "$corpus" --out "$data" ${corpus_dir:+--corpus-dir "$corpus_dir"} ${parts:+--parts $parts} $prepare_options
fi

if stage 2 "Tokens, and a small pretrained encoder"; then
  cuts_of "$data" $all_sets
  tokenize=(voxkit tokenize --cuts "${cuts[@]}" --kind bpe --vocab-size "$vocab_size" --out "$data/bpe")
  beside "${tokenize[@]}"
  [ "$alone" = streaming ] || run python local/pretrain.py --data-dir "$data" --sets $all_sets --out "$data/encoder" --epochs "$encoder_epochs"
  together "${tokenize[@]}"
fi

if stage 3 "Train ${alone:-stage 1: encoder frozen}"; then
  run $launch train --config "conf/${alone:-stage1}.yaml" --exp "$exp" "${overrides[@]}" "$train" $train_options
fi

if [ -z "$alone" ] && stage 4 "Train stage 2: top layers open"; then
  run $launch train --config conf/stage2.yaml --exp "$exp" --init "$exp/stage1" "${overrides[@]}" "$train" $train_options
fi

if [ -z "$alone" ] && stage 5 "Train stage 3: the domain"; then
  run $launch train --config conf/stage3.yaml --exp "$exp" --init "$exp/stage2" "${overrides[@]}" \
    data.train="[$(echo ${domain_sets:-$train_sets} | tr ' ' ,)]" $train_options
fi

export_command=(voxkit export "$exp/$last" --data-dir "$data" --check ${test_sets%% *} $export_options --out)
if stage 6 "Decode and score"; then
  if [ "$stop_stage" -ge 7 ]; then  # tracing the graph takes a core half a minute: the other one decodes
    beside "${export_command[@]}" "${made}onnx"
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
  fi
  run voxkit decode "$exp/$last" --data-dir "$data" --sets $test_sets --methods $methods --calibrate "${dev_sets%% *}"
fi

fused=                         # of the methods: those that take a language model
for method in $methods; do [ "$method" = greedy ] || fused="$fused $method"; done
if [ "$lm_order" -gt 0 ] && [ -n "$fused" ] && stage 6 "Decode with a $lm_order-gram from the training text"; then
  cuts_of "$data" $all_sets
  run voxkit lm train --text "${cuts[@]}" --tokenizer "$data/bpe" --order "$lm_order" --out "$data/lm$lm_order.arpa"
  run voxkit decode "$exp/$last" --data-dir "$data" --sets $test_sets --methods $fused --lm "$data/lm$lm_order.arpa" $lm_options
fi

if stage 6 "One recording"; then
  recording=$(find "$data/audio/test" -type f | sort | sed -n 1p)
  run voxkit transcribe "$exp/$last" "$recording" --json
fi

if stage 7 "Export to ONNX and INT8, verify"; then
  together "${export_command[@]}" "${made}onnx"
  run "${export_command[@]}" "${made}int8" --precision int8
  exported=("${made}onnx" "${made}int8")
  if [ "$alone" = streaming ]; then
    stream=(--streaming --chunk-ms "$chunk_ms")
    run "${export_command[@]}" "${made}live" "${stream[@]}"
    run voxkit export "$exp/$last" --out "${made}sherpa" --format sherpa-onnx "${stream[@]}"
    exported+=("${made}live" "${made}sherpa")
  fi
  run voxkit verify "$exp/$last" "${exported[@]}" --data-dir "$data" --sets ${test_sets%% *} $verify_options
fi
