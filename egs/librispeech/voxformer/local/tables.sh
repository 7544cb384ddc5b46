#!/usr/bin/env bash
# The tables of RESULTS.md for one trained run: every search with 95 % interval, RTF and beam; calibrated confidences; word times against
# Whisper's; biasing with 50 rare words on a list of 100; words per minute where nobody speaks. Everything goes to $out.
#
#   local/tables.sh --run-dir exp/stage3 --whisper /path/to/whisper-base --noise /path/to/noise
set -euo pipefail
cd "$(dirname "$0")/.."

stage=1                        # first stage to run
stop_stage=6                   # last stage to run
run_dir=exp/stage3             # the run
data=data                      # prepared data
out=exp/tables                 # where tables, hypotheses and records go
tokens=data/bpe300             # the run's tokenizer
train_set=train-clean-5        # text of the language models
dev_set=dev-clean-2            # temperatures, word times, weights are fitted here
test_set=test-clean-2          # everything is measured here
methods="greedy prefix_beam attention joint rescoring"
beam=10                        # hypotheses kept
order=4                        # of the n-gram
sample_lm=                     # Hugging Face folder or name of a causal language model whose words a second, larger n-gram knows; empty: none
sample_order=5                 # of that
tune=0.25                      # share of dev that weights, boosts and temperatures are fitted on
rescore_lm=                    # Hugging Face folder or name of a causal language model that ranks hypotheses anew; empty: none
rescore_methods=prefix_beam    # of those above, with the n-gram and then with it
lm_text=                       # more text for the language models, besides the training text
limit=0                        # only the first utterances of each set (for a try)
timed=150                      # utterances with Whisper's word times, of dev and of test
bias_methods="prefix_beam joint"  # of those above, decoded with phrases
boosts="1 2 3"                 # of phrases, tried on dev
whisper=                       # Whisper folder whose word times are the clock; empty: no word times
curves=                        # training runs whose curves the reports show
noise=                         # folder of noises; empty: only those that are made
decode_options=                # further options of voxkit decode and tune, e.g. model.front_end.pretrained.name=...
device=auto

. ../../../tools/recipe.sh
parse_options "$@"
mkdir -p "$out"
lm=$out/$order-gram.arpa
large=$out/$sample_order-gram-sampled.arpa
best=$lm                       # the n-gram beside which hypotheses are ranked anew
[ -z "$sample_lm" ] || best=$large
measured=$test_set  # as decode names its files
if [ "$limit" != 0 ]; then measured=$test_set-first$limit; fi
references=$data/cuts_$test_set.jsonl.gz  # which know speakers and audio
if [ "$limit" != 0 ]; then references=$out/plain/${measured}_reference.tsv; fi
common="--data-dir $data --beam $beam --device $device"
weighted=                      # of the methods: those with a weight of CTC
fused=                         # those that take a language model
for method in $methods; do
  case $method in joint | rescoring) weighted="$weighted $method" ;; esac
  [ "$method" = greedy ] || fused="$fused $method"
done

if stage 1 "Language model: $order-gram over the tokens, from the training text"; then
  run voxkit lm train --text "$data/cuts_$train_set.jsonl.gz" $lm_text --tokenizer "$tokens" --order "$order" --out "$lm"
  if [ -n "$sample_lm" ]; then
    run voxkit lm sample --text "$data/cuts_$train_set.jsonl.gz" $lm_text --model "$sample_lm" --out "$out/sampled.jsonl"
    run voxkit lm train --text "$data/cuts_$train_set.jsonl.gz" $lm_text --sampled "$out/sampled.jsonl" --tokenizer "$tokens" \
      --order "$sample_order" --prune 0 0 0 1 --out "$large"
  fi
fi

if stage 2 "Weights, chosen on $dev_set for each method, without and with the language model"; then
  if [ -n "$weighted" ]; then
    run voxkit tune "$run_dir" --set "$dev_set:$tune" --methods $weighted $common --out "$out/tuned.json" $decode_options
  fi
  if [ -n "$fused" ]; then
    run voxkit tune "$run_dir" --set "$dev_set:$tune" --methods $fused --lm "$lm" $common --out "$out/tuned-lm.json" $decode_options
    if [ -n "$sample_lm" ]; then
      run voxkit tune "$run_dir" --set "$dev_set:$tune" --methods $fused --lm "$large" $common --out "$out/tuned-large.json" $decode_options
    fi
  fi
  if [ -n "$rescore_lm" ]; then
    run voxkit tune "$run_dir" --set "$dev_set:$tune" --methods $rescore_methods --lm "$best" --rescore-lm "$rescore_lm" $common \
      --out "$out/tuned-rescored.json" $decode_options
  fi
fi

if stage 3 "Every search, without and with the language model, confidences calibrated on $dev_set"; then
  calibrate="--words --calibrate $dev_set:$tune --latency 8"
  run voxkit decode "$run_dir" --sets "$test_set" --methods $methods ${weighted:+--tuned "$out/tuned.json"} $calibrate --limit "$limit" \
    $common --out "$out/plain" $decode_options | tee "$out/plain.txt"
  if [ -n "$fused" ]; then
    run voxkit decode "$run_dir" --sets "$test_set" --methods $fused --lm "$lm" --tuned "$out/tuned-lm.json" $calibrate \
      --limit "$limit" $common --out "$out/lm" $decode_options | tee "$out/lm.txt"
    if [ -n "$sample_lm" ]; then
      run voxkit decode "$run_dir" --sets "$test_set" --methods $fused --lm "$large" --tuned "$out/tuned-large.json" $calibrate \
        --limit "$limit" $common --out "$out/large" $decode_options | tee "$out/large.txt"
    fi
  fi
  if [ -n "$rescore_lm" ]; then
    run voxkit decode "$run_dir" --sets "$test_set" --methods $rescore_methods --lm "$best" --rescore-lm "$rescore_lm" \
      --tuned "$out/tuned-rescored.json" --limit "$limit" $common --out "$out/rescored" $decode_options | tee "$out/rescored.txt"
  fi
  for scored in "$out"/lm/"${measured}"_*.jsonl "$out"/large/"${measured}"_*.jsonl "$out"/rescored/"${measured}"_*.jsonl; do
    case $scored in *\**) continue ;; esac
    echo "$(basename "$scored") against greedy:"
    run voxkit score --ref "$references" --hyp "$scored" --against "$out/plain/${measured}_greedy.jsonl" \
      --report "${scored%.jsonl}.html" ${curves:+--curves $curves}
  done | tee "$out/significance.txt"
fi

if stage 4 "Word times against Whisper's"; then
  if [ -n "$whisper" ]; then
    for part in "$dev_set" "$test_set"; do
      run voxkit align "$whisper" --method whisper --cuts "$data/cuts_$part.jsonl.gz" --limit "$timed" \
        --out-cuts "$out/cuts_$part-timed.jsonl.gz" --device "${device/auto/cpu}"
    done
    run voxkit decode "$run_dir" --sets "$out/cuts_$test_set-timed.jsonl.gz" --methods greedy --calibrate "$out/cuts_$dev_set-timed.jsonl.gz" \
      $common --out "$out/times" $decode_options | tee "$out/times.txt"
  else
    log "no --whisper: left out"
  fi
fi

if stage 5 "Biasing: 50 rare words on a list of 100; the boost chosen on $dev_set"; then
  for part in "$dev_set" "$test_set"; do
    run voxkit lm rare-words --text "$data/cuts_$train_set.jsonl.gz" --test "$data/cuts_$part.jsonl.gz" --out "$out/rare-$part.txt"
  done
  run voxkit tune "$run_dir" --set "$dev_set:$tune" --methods $bias_methods --phrases "$out/rare-$dev_set.txt" --boosts $boosts $common \
    --out "$out/tuned-phrases.json" $decode_options
  run voxkit decode "$run_dir" --sets "$test_set" --methods $bias_methods --phrases "$out/rare-$test_set.txt" \
    --tuned "$out/tuned-phrases.json" $common --limit "$limit" --out "$out/bias" $decode_options
  for method in $bias_methods; do
    echo "$method:"
    run voxkit score --ref "$out/plain/${measured}_reference.tsv" --hyp "$out/bias/${measured}_${method}_phrases100.tsv" \
      --against "$out/plain/${measured}_$method.tsv" --phrases "$out/rare-$test_set.txt"
  done | tee "$out/biasing.txt"
fi

if stage 6 "Words per minute where nobody speaks"; then
  run voxkit hallucinate "$run_dir" --methods $methods --minutes 1 ${noise:+--folders "$noise"} --beam "$beam" --device "$device" \
    --out "$out/nonspeech" $decode_options | tee "$out/hallucination.txt"
fi
