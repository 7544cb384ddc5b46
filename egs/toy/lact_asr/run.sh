#!/usr/bin/env bash
# LaCT ASR on the toy corpus: sessions of one voice over one channel, fast weights carried from utterance to utterance, and the question
# whether that helps on voices and channels that training never met.
set -euo pipefail
cd "$(dirname "$0")"

stage=0                        # first stage to run
stop_stage=7                   # last stage to run
ngpu=auto                      # training processes, one per GPU; auto: one GPU or two on a CPU; 0: one on the CPU
corpus=toy                     # a module of voxkit/data/corpora
corpus_dir=                    # for another corpus than toy: where the corpus is
parts=                         # which parts of it
train_sets="train"             # sets to train on
dev_sets="dev"                 # for the WER during training, in sessions
test_sets="test"               # decoded and scored in stage 6, utterance by utterance
vocab_size=300                 # of the SentencePiece BPE
config=main                    # conf/<config>.yaml
methods="greedy prefix_beam"   # searches in stage 6
prepare_options=               # further options of voxkit prepare, e.g. "--num-train 200"
train_options=                 # further key=value for training
data=data                      # where prepared data goes
exp=exp                        # where runs go

. ../../../tools/recipe.sh
parse_options "$@"

if stage 0 "Get the corpus"; then
  log "nothing to download: it is synthesized in stage 1"
fi

if stage 1 "Prepare: synthesize, validate, write cuts"; then
  run voxkit prepare "$corpus" --out "$data" ${corpus_dir:+--corpus-dir "$corpus_dir"} ${parts:+--parts $parts} $prepare_options
fi

if stage 2 "Tokens"; then
  cuts_of "$data" $train_sets
  run voxkit tokenize --cuts "${cuts[@]}" --kind bpe --vocab-size "$vocab_size" --out "$data/bpe"
fi

if stage 3 "Train: utterances alone first, then longer and longer sessions"; then
  run $launch train --config "conf/$config.yaml" --name "$config" --exp "$exp" data.data_dir="$data" tokenizer="$data/bpe" \
    data.train="[$(echo $train_sets | tr ' ' ,)]" data.dev="[$(echo $dev_sets | tr ' ' ,)]" $train_options
fi

if stage 6 "Decode and score, as recorded, every utterance from the initial weights"; then
  run voxkit decode "$exp/$config" --data-dir "$data" --sets $test_sets --methods $methods
fi

if stage 6 "Under channels of their own: state carried, of another session, none"; then
  run voxkit contrast "$exp/$config" --data-dir "$data" --sets $test_sets --out "$exp/contrast_$config.json"
fi

if stage 7 "A speaker's state: made, saved, taken"; then
  recordings=$(find "$data/audio/${test_sets%% *}" -type f | sort | sed -n 1,3p)
  run voxkit adapt "$exp/$config" $recordings --out "$exp/speaker.safetensors"
  run voxkit transcribe "$exp/$config" $recordings --state "$exp/speaker.safetensors"
fi
