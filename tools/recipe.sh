# What every run.sh shares. Source it below the knobs, then read the command line:
#
#   #!/usr/bin/env bash
#   # VoxFormer on LibriSpeech: what this recipe does, in a line or two (shown by --help).
#   set -euo pipefail
#   cd "$(dirname "$0")"
#
#   stage=0                # first stage to run
#   stop_stage=7           # last stage to run
#   ngpu=auto              # processes of training: one per GPU; auto: one GPU, or two on a CPU
#   max_duration=200       # a knob: `--max-duration 400` sets it
#
#   . ../../../tools/recipe.sh
#   parse_options "$@"
#
#   if stage 0 "Get the corpus"; then
#     run voxkit prepare ...
#   fi
#   if stage 3 "Train"; then
#     run $launch train ...
#   fi
#
# A knob is a `name=value` at the start of a line above the line that sources this file. Works with bash 3.2 (macOS).

RECIPE_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
case $0 in /*) RECIPE_SCRIPT=$0 ;; *) RECIPE_SCRIPT=${OLDPWD:-$PWD}/$0 ;; esac  # the caller has changed its directory
[ -f "$RECIPE_SCRIPT" ] || RECIPE_SCRIPT=$0
RECIPE_STAGE=
RECIPE_TITLE=
RECIPE_BEGAN=0
RECIPE_RAN=0
RECIPE_BESIDE=                 # process of what `beside` has started, and where its output goes
RECIPE_BESIDE_LOG=
launch=voxkit

log() {  # log MESSAGE...: a line with the time
  printf '%s  %s\n' "$(date '+%Y-%m-%d %H:%M:%S')" "$*"
}

die() {  # die MESSAGE...: say why and stop
  printf '%s: %s\n' "$0" "$*" >&2
  exit 2
}

knobs() {  # the names of this recipe's knobs, in the order of run.sh
  sed -n -e '/recipe\.sh/q' -e 's/^\([a-z][a-z0-9_]*\)=.*/\1/p' "$RECIPE_SCRIPT"
}

usage() {  # the comment on top of run.sh, then every knob as run.sh has it
  sed -n -e '1{/^#!/d;}' -e '/^#/!q' -e 's/^# \{0,1\}//p' "$RECIPE_SCRIPT"
  echo
  echo "usage: $0 [--name value ...]"
  echo
  sed -n -e '/recipe\.sh/q' -e '/^[a-z][a-z0-9_]*=/p' "$RECIPE_SCRIPT" | while IFS= read -r line; do
    name=${line%%=*}
    value=${line#*=}
    comment=
    case $value in *" #"*) comment=${value#*" #"}; value=${value%%" #"*} ;; esac
    value=$(printf '%s' "$value" | sed -e 's/[[:space:]]*$//')
    printf '  --%-18s %-24s%s\n' "$(printf '%s' "$name" | tr _ -)" "$value" "$comment"
  done
}

parse_options() {  # parse_options "$@": `--some-name value` or `--some-name=value` sets the knob some_name
  local _known _name _value  # a knob may be called name
  _known=" $(knobs | tr '\n' ' ')"
  while [ $# -gt 0 ]; do
    case $1 in
      --help | -h)
        usage
        exit 0
        ;;
      --*=*)
        _name=${1%%=*}
        _value=${1#*=}
        shift
        ;;
      --*)
        _name=$1
        [ $# -ge 2 ] || die "$_name needs a value: $_name VALUE"
        _value=$2
        case $_value in --*) die "$_name needs a value, found the next option $_value (if that is the value: $_name=$_value)" ;; esac
        shift 2
        ;;
      *)
        die "what is '$1'? Options are written --name value; $0 --help lists them"
        ;;
    esac
    _name=$(printf '%s' "${_name#--}" | tr - _)
    case $_known in
      *" $_name "*) printf -v "$_name" '%s' "$_value" ;;
      *) die "no option --$(printf '%s' "$_name" | tr _ -); there are:$(printf '%s' "$_known" | tr _ - | sed 's/ \([^ ]\)/ --\1/g')" ;;
    esac
  done
  _recipe_check_number stage
  _recipe_check_number stop_stage
  _recipe_find_voxkit
  _recipe_choose_launch
  trap _recipe_end EXIT
}

stage() {  # stage N TITLE: true where N is within --stage ... --stop-stage
  _recipe_close
  if [ "$1" -lt "${stage:-0}" ] || [ "$1" -gt "${stop_stage:-99}" ]; then
    return 1
  fi
  RECIPE_STAGE=$1
  RECIPE_TITLE=$2
  RECIPE_BEGAN=$SECONDS
  RECIPE_RAN=$((RECIPE_RAN + 1))
  echo
  log "stage $1: $2"
}

run() {  # run COMMAND...: show it, then run it; where it fails, the recipe stops and names the stage
  local status=0
  { printf '+'; printf ' %q' "$@"; printf '\n'; } >&2
  "$@" || status=$?
  [ $status -eq 0 ] || exit $status
}

beside() {  # beside COMMAND...: start it, on one thread, beside the commands that follow; `together` shows what it said
  { printf '+ (beside)'; printf ' %q' "$@"; printf '\n'; } >&2
  RECIPE_BESIDE_LOG=$(mktemp "${TMPDIR:-/tmp}/voxkit-beside.XXXXXX")
  OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} "$@" > "$RECIPE_BESIDE_LOG" 2>&1 < /dev/null &
  RECIPE_BESIDE=$!
}

together() {  # together COMMAND...: wait for what `beside` has started; where nothing was, run the command now
  local status=0
  if [ -z "$RECIPE_BESIDE" ]; then
    run "$@"
    return
  fi
  wait "$RECIPE_BESIDE" || status=$?
  RECIPE_BESIDE=
  { printf '+'; printf ' %q' "$@"; printf '\n'; } >&2
  cat "$RECIPE_BESIDE_LOG"
  rm -f "$RECIPE_BESIDE_LOG"
  [ $status -eq 0 ] || exit $status
}

corpus_stages() {  # stages 0 and 1 of a recipe over speech: what the knobs corpus, corpus_dir and parts name, prepared into $data
  if stage 0 "Get the corpus"; then
    if [ "$corpus" = librispeech ] && [ -z "$corpus_dir" ]; then
      run voxkit prepare librispeech --parts "$parts" --download-only --out "$data"
    else
      log "the corpus is there: ${corpus_dir:-made in stage 1}"
    fi
  fi
  if stage 1 "Prepare: manifests, validated cuts"; then
    run voxkit prepare "$corpus" --out "$data" ${corpus_dir:+--corpus-dir "$corpus_dir"} ${parts:+--parts $parts} $prepare_options
  fi
}

tokenizer_of() {  # tokenizer_of DATA KIND SIZE: the folder of a tokenizer: DATA/char, or DATA/bpe300
  case $2 in
    bpe) echo "$1/bpe$3" ;;
    char) echo "$1/char" ;;
    *) die "--tokens '$2': bpe or char" ;;
  esac
}

cuts_of() {  # cuts_of DATA SET...: the files of prepared sets, in the array cuts
  local data=$1 set
  shift
  cuts=()
  for set in "$@"; do cuts+=("$data/cuts_${set%%:*}.jsonl.gz"); done
}

_recipe_check_number() {
  local value=${!1:-0}
  case $value in
    *[!0-9]*) die "--$(printf '%s' "$1" | tr _ -) $value: a stage is a number" ;;
  esac
}

_recipe_find_voxkit() {  # on PATH, or in the .venv that `make` has made
  if ! command -v voxkit >/dev/null 2>&1; then
    if [ -x "$RECIPE_ROOT/.venv/bin/voxkit" ]; then
      PATH="$RECIPE_ROOT/.venv/bin:$PATH"
      export PATH
    else
      die "no voxkit command: activate its environment, or run 'make venv' and 'pip install -e .' in the root of the repository"
    fi
  fi
}

_recipe_choose_launch() {  # --ngpu → how training is started, in $launch (used unquoted)
  local processes=${ngpu:-auto} torchrun
  case $processes in
    auto)
      processes=1
      if ! _recipe_sees_gpu && [ "$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)" -gt 1 ]; then processes=2; fi
      ;;
    0)
      processes=1
      export CUDA_VISIBLE_DEVICES=
      ;;
    *[!0-9]*) die "--ngpu $ngpu: auto, 0 (one process, on the CPU), 1 or a number of processes, each with a GPU where there are any" ;;
  esac
  [ "$processes" -gt 1 ] || [ "${nnodes:-1}" -gt 1 ] || return 0
  if [ "${nnodes:-1}" -gt 1 ]; then  # one run.sh per machine, the same but for --node-rank
    torchrun="torchrun --nnodes=$nnodes --nproc-per-node=$processes --node-rank=${node_rank:?--node-rank: 0 on the first machine}"
    torchrun="$torchrun --master-addr=${master_addr:?--master-addr: name of the first machine} --master-port=${master_port:-29500}"
  else
    torchrun="torchrun --standalone --nproc-per-node=$processes"
  fi
  launch="$torchrun -m voxkit.cli.main"
}

_recipe_sees_gpu() {
  [ -n "${CUDA_VISIBLE_DEVICES-all}" ] && nvidia-smi -L >/dev/null 2>&1
}

_recipe_close() {
  [ -n "$RECIPE_STAGE" ] || return 0
  log "stage $RECIPE_STAGE took $((SECONDS - RECIPE_BEGAN)) s"
  RECIPE_STAGE=
}

_recipe_end() {
  local status=$?
  if [ -n "$RECIPE_BESIDE" ]; then  # the recipe ends before anybody waited for it
    { kill "$RECIPE_BESIDE" && wait "$RECIPE_BESIDE"; } 2>/dev/null || true
    rm -f "$RECIPE_BESIDE_LOG"
  fi
  if [ $status -eq 0 ]; then
    _recipe_close
    [ "$RECIPE_RAN" -gt 0 ] || log "no stage between --stage ${stage:-0} and --stop-stage ${stop_stage:-99}: nothing was run"
  elif [ -n "$RECIPE_STAGE" ]; then
    echo >&2
    echo "$0: stage $RECIPE_STAGE ($RECIPE_TITLE) failed with status $status after $((SECONDS - RECIPE_BEGAN)) s." >&2
    echo "When it is mended, go on from there: $0 --stage $RECIPE_STAGE (with your other options)" >&2
  fi
}
