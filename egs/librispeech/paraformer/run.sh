#!/usr/bin/env bash
# Paraformer on LibriSpeech, from filterbanks or from a frozen pretrained encoder, with BPE or characters.
#
#   ./run.sh --parts mini --config mini_pretrained --encoder /path/to/whisper-base     two CPU cores
#   ./run.sh --parts mini --config mini_fbank --tokens char                            from scratch, characters
#   ./run.sh --data ../voxformer/data --encoder /path/to/whisper-base --init ../voxformer/exp/stage2    from a trained VoxFormer
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
config=mini_pretrained         # conf/<config>.yaml: base, pretrained, mini_fbank, mini_pretrained
init=                          # VoxFormer run whose front end, Zipformer and CTC heads go on from there, at a fifth of the rate; empty: from scratch
encoder=                       # Hugging Face name or folder of the pretrained encoder; empty: as the configuration says
methods="greedy guided beam prefix_beam rescoring"  # searches in stage 6
lm_order=4                     # of the n-gram from the training text that stage 6 decodes with besides; 0: none
lm_options="decode.lm_weight=0.3 decode.length_bonus=0.5"  # with it, each where the method takes it; `voxkit tune` finds better ones on dev
prepare_options=               # further options of voxkit prepare, e.g. "--text lower"
train_options=                 # further key=value for training
data=data                      # where prepared data goes
exp=exp                        # where runs go

. ../../../tools/recipe.sh
parse_options "$@"

tokenizer=$(tokenizer_of "$data" "$tokens" "$vocab_size")
overrides=("data.data_dir=$data" "tokenizer=$tokenizer" "data.train=[$(echo $train_sets | tr ' ' ,)]"
  "data.dev=[$(echo $dev_sets | tr ' ' ,)]")
if [ -n "$encoder" ]; then overrides+=("model.front_end.pretrained.name=$encoder"); fi
if [ -z "$init" ]; then overrides+=("model.loss.boundary_start=1000"); fi  # a CTC head from scratch learns first where tokens are
name="${config}_$tokens${init:+_init}"  # a run from scratch is another one

corpus_stages

if stage 2 "Tokens: $tokens"; then
  cuts_of "$data" $train_sets
  run voxkit tokenize --cuts "${cuts[@]}" --kind "$tokens" --vocab-size "$vocab_size" --out "$tokenizer"
fi

if stage 3 "Train"; then
  run $launch train --config "conf/$config.yaml" ${init:+conf/continued.yaml} --name "$name" --exp "$exp" "${overrides[@]}" \
    ${init:+"init=$init"} $train_options
fi

if stage 6 "Decode and score"; then
  run voxkit decode "$exp/$name" --data-dir "$data" --sets $test_sets --methods $methods
fi

fused=                         # of the methods: those that take a language model
for method in $methods; do
  case $method in greedy | guided | ctc_greedy) ;; *) fused="$fused $method" ;; esac
done
if [ "$lm_order" -gt 0 ] && [ -n "$fused" ] && stage 6 "Decode with a $lm_order-gram from the training text"; then
  cuts_of "$data" $train_sets
  lm="$data/lm$lm_order-$(basename "$tokenizer").arpa"
  run voxkit lm train --text "${cuts[@]}" --tokenizer "$tokenizer" --order "$lm_order" --out "$lm"
  run voxkit decode "$exp/$name" --data-dir "$data" --sets $test_sets --methods $fused --lm "$lm" $lm_options
fi
