#!/usr/bin/env bash
# LaCT ASR on LibriSpeech: fast weights that adapt to a speaker, beside full attention and the same network without adaptation.
#
#   ./run.sh --config mini --encoder /path/to/whisper-base                        two CPU cores, five hours of speech
#   ./run.sh --config baseline_full_attention --encoder /path/to/whisper-base     the transformer of the same size
#   ./run.sh --config ablation/updates_off --encoder /path/to/whisper-base        any of conf/ablation
#   ./run.sh --parts full --config base --ngpu 8 --vocab-size 2000 \
#     --train-sets "train-clean-100 train-clean-360 train-other-500" --dev-sets dev-clean --test-sets "test-clean test-other"
set -euo pipefail
cd "$(dirname "$0")"

stage=0                        # first stage to run
stop_stage=7                   # last stage to run
ngpu=auto                      # training processes, one per GPU; auto: one GPU or two on a CPU; 0: one on the CPU
corpus=librispeech             # a module of voxkit/data/corpora
corpus_dir=                    # a tree that is there; empty downloads it
parts=mini                     # which parts of it: mini, full, or names such as train-clean-100
train_sets="train-clean-5"     # sets to train on
dev_sets="dev-clean-2"         # for the WER during training
test_sets="test-clean-2"       # decoded and scored in stage 6
tokens=bpe                     # bpe or char
vocab_size=300                 # of the BPE
config=mini                    # conf/<config>.yaml
encoder=                       # Hugging Face name or folder of the pretrained encoder; empty: as the configuration says
methods="greedy joint"         # searches in stage 6
utterances=20                  # of a session in the contrast
seed=42
prepare_options=               # further options of voxkit prepare
train_options=                 # further key=value for training
data=data                      # where prepared data goes
exp=exp                        # where runs go

. ../../../tools/recipe.sh
parse_options "$@"

tokenizer=$(tokenizer_of "$data" "$tokens" "$vocab_size")
name="$(basename "$config")_$seed"
overrides=("data.data_dir=$data" "tokenizer=$tokenizer" "seed=$seed" "data.train=[$(echo $train_sets | tr ' ' ,)]"
  "data.dev=[$(echo $dev_sets | tr ' ' ,)]")
if [ -n "$encoder" ]; then overrides+=("model.front_end.pretrained.name=$encoder"); fi

corpus_stages

if stage 2 "Tokens: $tokens"; then
  cuts_of "$data" $train_sets
  run voxkit tokenize --cuts "${cuts[@]}" --kind "$tokens" --vocab-size "$vocab_size" --out "$tokenizer"
fi

if stage 3 "Train"; then
  run $launch train --config "conf/$config.yaml" --name "$name" --exp "$exp" "${overrides[@]}" $train_options
fi

if stage 6 "Decode and score, every utterance from the initial weights"; then
  run voxkit decode "$exp/$name" --data-dir "$data" --sets $test_sets --methods $methods
fi

case $config in
  baseline_* | */window_only | */updates_off) ;;
  *)
    if stage 6 "State carried, of another session, none (PREREGISTRATION.md, H1 and H2)"; then
      run voxkit contrast "$exp/$name" --data-dir "$data" --sets $dev_sets $test_sets --utterances "$utterances" \
        --out "$exp/contrast_$name.json"
    fi
    ;;
esac
