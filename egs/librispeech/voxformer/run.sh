#!/usr/bin/env bash
# VoxFormer on LibriSpeech: frozen self-supervised encoder, learned mix of its layers, Zipformer, CTC and attention; three training stages.
#
#   ./run.sh --parts mini --encoder /path/to/whisper-base                  two CPU cores, an evening (RESULTS.md)
#   ./run.sh --parts full --ngpu 8                                         the plan: WavLM Base+, 960 h
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
domain_sets=                   # sets for stage 3; empty: the same speech
tokens=bpe                     # bpe or char
vocab_size=300                 # of the BPE
size=mini_                     # configurations conf/${size}stage{1,2,3}.yaml: "mini_" for CPU, "" for the plan
alone=                         # configuration conf/$alone.yaml trained in place of the three stages: "transducer"
machine=                       # overlay for the machine: local_8gb or a100
encoder=                       # Hugging Face name or folder of the pretrained encoder; empty: as the configuration says
methods="greedy prefix_beam attention joint rescoring"  # searches in stage 6
lm_order=4                     # of the n-gram from the training text that stage 6 decodes with besides; 0: none
lm_options="--lm-weight 0.3 --length-bonus 0.5"  # with it; "--lm-weight 0.7 --length-bonus 3" with sample_lm; `voxkit tune` finds better
sample_lm=                     # Hugging Face name or folder of a causal language model whose words the n-gram gets to know; empty: none
synthetic=0                    # lines of synthetic speech with such words (needs sample_lm) that are trained on besides; 0: none
voices="hibari hibari pico:en-US pico:en-GB espeak"  # which say them
prepare_options=               # further options of voxkit prepare, e.g. "--text lower"
train_options=                 # further key=value for training
data=data                      # where prepared data goes
exp=exp                        # where runs go

. ../../../tools/recipe.sh
parse_options "$@"

for knob in synthetic lm_order; do
  case ${!knob} in *[!0-9]*|"") die "--$(echo $knob | tr _ -) '${!knob}': a number is needed" ;; esac
done
tokenizer=$(tokenizer_of "$data" "$tokens" "$vocab_size")
if [ "$synthetic" -gt 0 ] && [ -z "$sample_lm" ]; then
  die "--synthetic $synthetic needs --sample-lm, a causal language model that knows the words"
fi
heard=$train_sets
if [ "$synthetic" -gt 0 ]; then heard="$heard synthetic"; fi
overrides=("data.data_dir=$data" "tokenizer=$tokenizer" "data.train=[$(echo $heard | tr ' ' ,)]"
  "data.dev=[$(echo $dev_sets | tr ' ' ,)]")
if [ -n "$encoder" ]; then overrides+=("model.front_end.pretrained.name=$encoder"); fi
overlay=${machine:+conf/$machine.yaml}
last=${alone:-stage3}          # the run that is decoded and exported

corpus_stages

sampled="$data/sampled-$(echo "$train_sets $sample_lm" | tr -c 'A-Za-z0-9.\n' -).jsonl"
sample_words() {  # what sample_lm would say in the place of each word of $cuts, unless that is known
  local file
  for file in "${cuts[@]}"; do
    [ "$sampled" -nt "$file" ] || { run voxkit lm sample --text "${cuts[@]}" --model "$sample_lm" --out "$sampled"; return; }
  done
}

if [ "$synthetic" -gt 0 ] && stage 1 "Synthetic speech: the transcripts with words of a large language model"; then
  cuts_of "$data" $train_sets
  sample_words
  run voxkit lm substitute --text "${cuts[@]}" --sampled "$sampled" --lines "$synthetic" --out "$data/substituted.txt"
  run voxkit prepare synthetic --lines "$data/substituted.txt" --voices $voices --out "$data"
fi

if stage 2 "Tokens: $(basename "$tokenizer")"; then
  cuts_of "$data" $train_sets
  run voxkit tokenize --cuts "${cuts[@]}" --kind "$tokens" --vocab-size "$vocab_size" --out "$tokenizer"
fi

if stage 3 "Train ${alone:-stage 1: encoder frozen}"; then
  run $launch train --config "conf/${alone:-${size}stage1}.yaml" $overlay --exp "$exp" "${overrides[@]}" $train_options
fi

if [ -z "$alone" ] && stage 4 "Train stage 2: top layers open"; then
  run $launch train --config "conf/${size}stage2.yaml" $overlay --exp "$exp" --init "$exp/stage1" "${overrides[@]}" $train_options
fi

if [ -z "$alone" ] && stage 5 "Train stage 3: the domain"; then
  run $launch train --config "conf/${size}stage3.yaml" $overlay --exp "$exp" --init "$exp/stage2" "${overrides[@]}" \
    data.train="[$(echo ${domain_sets:-$train_sets} | tr ' ' ,)]" $train_options
fi

if stage 6 "Decode and score"; then
  run voxkit decode "$exp/$last" --data-dir "$data" --sets $test_sets --methods $methods
fi

fused=                         # of the methods: those that take a language model
for method in $methods; do [ "$method" = greedy ] || fused="$fused $method"; done
if [ "$lm_order" -gt 0 ] && [ -n "$fused" ] && stage 6 "Decode with a $lm_order-gram from the training text"; then
  cuts_of "$data" $train_sets
  [ -z "$sample_lm" ] || sample_words
  lm="$data/lm$lm_order-$(basename "$tokenizer").arpa"
  run voxkit lm train --text "${cuts[@]}" ${sample_lm:+--sampled "$sampled" --prune 0 0 0 1} \
    --tokenizer "$tokenizer" --order "$lm_order" --out "$lm"
  run voxkit decode "$exp/$last" --data-dir "$data" --sets $test_sets --methods $fused --lm "$lm" $lm_options
fi

if stage 7 "Export to ONNX and INT8, check parity"; then
  run voxkit export "$exp/$last" --out "$exp/onnx" --data-dir "$data" --check $test_sets
fi
