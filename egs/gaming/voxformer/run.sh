#!/usr/bin/env bash
# VoxFormer for a game: a general recognizer, a pack of what its players say, recordings of games. Stage 3 fine-tunes, replays LibriSpeech
# and stops by real speech of other games. It is measured beside the general one that was given the same pack.
#
#   ./run.sh --corpus-dir CORPUS --init ../../librispeech/voxformer/exp/stage2 --tokenizer ../../librispeech/voxformer/data/bpe300
#   ./run.sh --corpus-dir CORPUS                                           trains the general one first (stages 3 and 4)
set -euo pipefail
cd "$(dirname "$0")"

stage=0                        # first stage to run
stop_stage=7                   # last stage to run
ngpu=auto                      # training processes, one per GPU; auto: one GPU or two on a CPU; 0: one on the CPU
corpus=gaming                  # a module of voxkit/data/corpora
corpus_dir=                    # a folder with gaming/, LibriSpeech/ and noise/, as unpack.py makes it
parts="train-clean-5 dev-clean-2 test-clean-2"  # of LibriSpeech: for replay, and to see what is forgotten
pack=strategy                  # what the players say: a YAML file, or a pack that voxkit brings
sentences=4000                 # of the pack, said by synthesizers
voices="espeak hibari pico:en-US"  # that say those of training
test_voices="pico:en-GB"       # that say those of synthetic_test: none of the above
noise_folders="hedgewars_music hedgewars_sfx freedoom_sfx opensfx"  # of noise/: mixed in while training
silence_folders="wz2100_sfx"   # of noise/: never heard in training, nobody speaks in them (stage 6)
train_sets="fotaq_train bass_train synthetic train-clean-5:0.3"  # sets for stage 3; the last one replays LibriSpeech
general_sets="train-clean-5"   # sets for stages 3 and 4 where there is no --init
dev_sets="fotaq_dev bass_dev"  # real speech of other games, by whose WER stage 3 stops
test_sets="callouts briefings synthetic_test test-clean-2"  # decoded and scored in stage 6
init=                          # the general recognizer: a run or a checkpoint; empty: stages 3 and 4 train it
tokenizer=                     # that of --init; empty: made in stage 2
vocab_size=300                 # of the BPE made in stage 2
size=mini_                     # configurations conf/${size}stage3.yaml and the general ones: "mini_" for CPU, "" for the plan
encoder=                       # Hugging Face name or folder of the pretrained encoder; empty: as the configuration says
method=joint                   # search in stage 6
prepare_options=               # further options of voxkit prepare gaming
train_options=                 # further key=value for training
data=data                      # where prepared data goes
exp=exp                        # where runs go

. ../../../tools/recipe.sh
parse_options "$@"

if [ -n "$init" ] && [ -z "$tokenizer" ]; then die "--init $init: give its tokenizer too (--tokenizer), for its pieces are what it says"; fi
general=../../librispeech/voxformer/conf   # stages 3 and 4 are those of LibriSpeech
pieces=${tokenizer:-$data/bpe$vocab_size}
start=${init:-$exp/stage2}
overrides=("data.data_dir=$data" "tokenizer=$pieces")
if [ -n "$encoder" ]; then overrides+=("model.front_end.pretrained.name=$encoder"); fi
tests=("$data/cuts_callouts.jsonl.gz" "$data/cuts_briefings.jsonl.gz")

if stage 0 "Get the corpus"; then
  [ -n "$corpus_dir" ] || die "--corpus-dir: a folder with gaming/, LibriSpeech/ and noise/"
  log "the corpus is there: $corpus_dir"
fi

if stage 1 "Prepare: games split by text, LibriSpeech, the pack said by synthesizers, noise"; then
  run voxkit prepare "$corpus" --out "$data" --corpus-dir "$corpus_dir/gaming" $prepare_options
  run voxkit prepare librispeech --out "$data" --corpus-dir "$corpus_dir/LibriSpeech" --parts $parts
  run voxkit pack sentences "$pack" --part train --count "$sentences" --held-out "${tests[@]}" --leave-out --out "$data/sentences.txt"
  run voxkit prepare synthetic --out "$data" --lines "$data/sentences.txt" --voices $voices --text librispeech
  run voxkit prepare synthetic --out "$data" --pack "$pack" --part test --count 300 --split synthetic_test --voices $test_voices \
    --other-voices-than synthetic --text librispeech
  run mkdir -p "$data/noise"
  for folder in $noise_folders; do run cp -R "$corpus_dir/noise/$folder" "$data/noise/"; done
fi

if stage 2 "Tokens and the pack: nothing of a test set is trained on, every phrase can be spelled"; then
  if [ -z "$tokenizer" ]; then
    cuts_of "$data" $general_sets fotaq_train bass_train synthetic
    run voxkit tokenize --cuts "${cuts[@]}" --kind bpe --vocab-size "$vocab_size" --out "$pieces"
  fi
  cuts_of "$data" $train_sets
  run voxkit pack check "$pack" --tokenizer "$pieces" --text librispeech --train "${cuts[@]}" --held-out "${tests[@]}"
  run voxkit pack phrases "$pack" --text librispeech --out "$data/phrases.txt"
fi

if [ -z "$init" ] && stage 3 "Train stage 1: the general recognizer, encoder frozen"; then
  run $launch train --config "$general/${size}stage1.yaml" --exp "$exp" "${overrides[@]}" \
    "data.train=[$(echo $general_sets | tr ' ' ,)]" "data.dev=[dev-clean-2]" $train_options
fi

if [ -z "$init" ] && stage 4 "Train stage 2: the general recognizer, top layers open"; then
  run $launch train --config "$general/${size}stage2.yaml" --exp "$exp" --init "$exp/stage1" "${overrides[@]}" \
    "data.train=[$(echo $general_sets | tr ' ' ,)]" "data.dev=[dev-clean-2]" $train_options
fi

if stage 5 "Train stage 3: the game"; then
  run $launch train --config "conf/${size}stage3.yaml" --exp "$exp" --init "$start" "${overrides[@]}" "data.noise=$data/noise" \
    "data.train=[$(echo $train_sets | tr ' ' ,)]" "data.dev=[$(echo $dev_sets | tr ' ' ,)]" $train_options
fi

hypotheses() {  # hypotheses FOLDER SET: what was decoded there with phrases
  local file
  for file in "$1/$2_$method"*phrases*.jsonl; do
    if [ -f "$file" ]; then echo "$file"; return; fi
  done
  echo "$1/$2_${method}.jsonl"
}

if stage 6 "Decode and score, beside the general recognizer with the same pack"; then
  for model in "$start" "$exp/stage3"; do
    out=$exp/decode/$(basename "$model")
    run voxkit decode "$model" --data-dir "$data" --sets $test_sets --methods "$method" --out "$out/plain"
    run voxkit decode "$model" --data-dir "$data" --sets $test_sets --methods "$method" --phrases "$data/phrases.txt" --out "$out/pack"
  done
  for set in $test_sets; do
    options=()
    case $set in
      callouts) options=(--per condition --condition label) ;;
      synthetic_test) options=(--commands "$pack") ;;
    esac
    run voxkit score --ref "$data/cuts_$set.jsonl.gz" --hyp "$(hypotheses "$exp/decode/stage3/pack" "$set")" \
      --against "$(hypotheses "$exp/decode/$(basename "$start")/pack" "$set")" --normalize librispeech ${options[@]+"${options[@]}"} \
      --csv "$exp/results.csv" --name "$set"
  done
  if [ -n "$corpus_dir" ]; then
    silence=()
    for folder in $silence_folders; do silence+=("$corpus_dir/noise/$folder"); done
    run voxkit hallucinate "$exp/stage3" --folders "${silence[@]}" --minutes 10 --methods "$method" --phrases "$data/phrases.txt" \
      --commands "$pack"
  fi
fi

if stage 7 "Export to ONNX and INT8, check parity"; then
  run voxkit export "$exp/stage3" --out "$exp/onnx" --data-dir "$data" --check ${test_sets%% *}
fi
