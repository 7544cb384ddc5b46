#!/usr/bin/env bash
# LaCT audio on LibriSpeech: a generator over the codes of egs/librispeech/codec, sessions of one speaker of up to two minutes.
#
#   ./run.sh --codec ../codec/exp/codec_head                                  nine million parameters, a CPU
#   ./run.sh --codec ../codec/exp/codec_head --config baseline_full_attention the transformer of the same size; also baseline_window, updates_off
set -euo pipefail
cd "$(dirname "$0")"

stage=0                        # first stage to run
stop_stage=7                   # last stage to run
ngpu=0                         # training processes, one per GPU; auto: one GPU or two on a CPU; 0: one on the CPU
corpus=librispeech             # a module of voxkit/data/corpora
corpus_dir=                    # a tree that is there; empty downloads it
parts=mini                     # which parts of it: mini, full, or names such as train-clean-100
train_sets="train-clean-5"     # sets to train on
dev_sets="dev-clean-2"         # for the loss during training
codec=../codec/exp/codec_head  # run of system codec, or a pretrained codec's name or folder
config=mini                    # conf/<config>.yaml
prompt=                        # audio that stage 7 goes on from
seconds=30                     # that stage 7 makes
prepare_options=               # further options of voxkit prepare
train_options=                 # further key=value for training
data=data                      # where prepared data goes
exp=exp                        # where runs go

. ../../../tools/recipe.sh
parse_options "$@"

corpus_stages

if stage 3 "Train"; then
  run $launch train --config "conf/$config.yaml" --name "$config" --exp "$exp" tokenizer="$codec" data.data_dir="$data" \
    data.train="[$(echo $train_sets | tr ' ' ,)]" data.dev="[$(echo $dev_sets | tr ' ' ,)]" $train_options
fi

if stage 7 "Generate"; then
  run voxkit generate "$exp/$config" ${prompt:+--prompt "$prompt" --prompt-seconds 10} --seconds "$seconds" --top-p 0.95 \
    --out "$exp/generated_$config.wav"
fi
