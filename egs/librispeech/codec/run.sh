#!/usr/bin/env bash
# A codec on LibriSpeech: log-mel → books by residuals → log-mel → samples, trained in two steps and scored beside k-means books and
# Griffin-Lim at the same rate.
#
#   ./run.sh                                              five hours of speech, one core
#   ./run.sh --corpus-dir /path/to/LibriSpeech            a tree that is there
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
test_sets="test-clean-2"       # scored in stage 6
measures="pesq stoi si_sdr mel"   # also speaker, dnsmos, distill_mos
whisper=                       # folder or name of a Whisper, for the error rate on decoded speech
utterances=4                   # of each speaker, scored
prepare_options=               # further options of voxkit prepare
train_options=                 # further key=value for training
data=data                      # where prepared data goes
exp=exp                        # where runs go

. ../../../tools/recipe.sh
parse_options "$@"

sets=("data.data_dir=$data" "data.train=[$(echo $train_sets | tr ' ' ,)]" "data.dev=[$(echo $dev_sets | tr ' ' ,)]")

corpus_stages

if stage 3 "Train step 1: books, encoder, decoder"; then
  run $launch train --config conf/mel.yaml --exp "$exp" "${sets[@]}" $train_options
fi

if stage 4 "Train step 2: the head"; then
  run $launch train --config conf/head.yaml --exp "$exp" "${sets[@]}" init="$exp/codec_mel" $train_options
fi

if stage 6 "Score, beside k-means books and Griffin-Lim"; then
  run voxkit score-codec "$exp/codec_head" --data-dir "$data" --sets $test_sets --utterances "$utterances" --measures $measures \
    --baseline "${train_sets%% *}" ${whisper:+--whisper "$whisper"} --out "$exp/scores.json"
fi
