#!/usr/bin/env bash
# Paraformer on synthetic features whose every boundary is known: made, trained and measured in three to five minutes of processor time.
# dev and test hold voices and words that training never met.
set -euo pipefail
cd "$(dirname "$0")"

stage=0                        # first stage to run
stop_stage=7                   # last stage to run
ngpu=1                         # training processes: networks so small gain nothing by more (0: one on the CPU)
corpus=toyseq                  # a module of voxkit/data/corpora
corpus_dir=                    # for another corpus than toyseq: where the corpus is
parts=                         # which parts of it
train_sets="train"             # sets to train on
dev_sets="dev"                 # for the WER during training
test_sets="test"               # decoded and scored in stage 6
prepare_options=               # further options of voxkit prepare, e.g. "--num-train 200"
methods="greedy beam prefix_beam rescoring"  # searches in stage 6
name=main                      # of the run: for other options another one, or the run that is there is continued
train_options=                 # further key=value for training
data=data                      # where prepared data goes
exp=exp                        # where runs go

. ../../../tools/recipe.sh
parse_options "$@"

if stage 0 "Get the corpus"; then
  log "nothing to download: it is made in stage 1"
fi

if stage 1 "Prepare: make features, validate, write cuts"; then
  run voxkit prepare "$corpus" --out "$data" ${corpus_dir:+--corpus-dir "$corpus_dir"} ${parts:+--parts $parts} $prepare_options
fi

if stage 2 "Tokens: characters"; then
  cuts_of "$data" $train_sets
  run voxkit tokenize --cuts "${cuts[@]}" --kind char --out "$data/chars"
fi

if stage 3 "Train"; then
  run $launch train --config conf/main.yaml --name "$name" --exp "$exp" data.data_dir="$data" tokenizer="$data/chars" \
    data.train="[$(echo $train_sets | tr ' ' ,)]" data.dev="[$(echo $dev_sets | tr ' ' ,)]" $train_options
fi

if stage 6 "Decode and score; word times against the true ones"; then
  run voxkit decode "$exp/$name" --data-dir "$data" --sets $test_sets --methods $methods
fi

if [ "$corpus" = toyseq ] && stage 6 "One utterance"; then
  utterance=$(find "$data/features/test" -type f | sort | sed -n 1p)
  run voxkit transcribe "$exp/$name" "$utterance" --json
fi
