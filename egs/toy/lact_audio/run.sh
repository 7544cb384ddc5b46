#!/usr/bin/env bash
# LaCT audio on toy pieces, the positive control: does a generator remember timbre, tempo, key and motif over silences that are longer than
# its windows' reach? Fast weights beside the same network without learning. No download, minutes on a CPU.
set -euo pipefail
cd "$(dirname "$0")"

stage=0                        # first stage to run
stop_stage=7                   # last stage to run
ngpu=0                         # training processes, one per GPU; auto: one GPU or two on a CPU; 0: one on the CPU
corpus=pieces                  # a module of voxkit/data/corpora
configs="main updates_off"     # conf/<config>.yaml, each trained and measured; the first beside the others
test_sets="test"               # measured in stage 6
prepare_options="--max-duration 70"   # further options of voxkit prepare, e.g. "--num-train 60"
train_options=                 # further key=value for training
data=data                      # where prepared data goes
exp=exp                        # where runs go

. ../../../tools/recipe.sh
parse_options "$@"

if stage 1 "Prepare: compose pieces, write cuts"; then
  run voxkit prepare "$corpus" --out "$data" $prepare_options
fi

if stage 3 "Train"; then
  for config in $configs; do
    run $launch train --config "conf/$config.yaml" --name "$config" --exp "$exp" data.data_dir="$data" $train_options
  done
fi

if stage 6 "What is remembered at the returns of the motif"; then
  runs=()
  for config in $configs; do runs+=("$exp/$config"); done
  run python local/recall.py "${runs[@]}" --data-dir "$data" --sets $test_sets --out "$exp/recall.json"
fi

if stage 7 "A piece goes on from its first half minute"; then
  prompt=$(find "$data/audio/${test_sets%% *}" -type f | sort | head -n 1)
  run voxkit generate "$exp/${configs%% *}" --prompt "$prompt" --seconds 30 --temperature 0.3 --out "$exp/generated.wav"
fi
