#!/usr/bin/env bash
# demo.sh VENV RECIPE: run a toy recipe through all its stages, then show its word error rates and the transcript of one recording.
set -euo pipefail

venv=$(cd "$1" && pwd)
recipe=$2
export PATH="$venv/bin:$PATH"
began=$SECONDS

if [ ! -x "$recipe/run.sh" ]; then
  echo "no recipe $recipe/run.sh; there are: $(ls -d egs/*/*/run.sh 2>/dev/null | sed 's|/run.sh||' | tr '\n' ' ')" >&2
  exit 1
fi
"$recipe/run.sh"
echo
echo "The whole recipe took $((SECONDS - began)) s."
