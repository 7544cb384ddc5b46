"""tools/recipe.sh, make_venv.sh: run by bash as a recipe runs them."""

import os
import re
import shutil
import subprocess

import pytest

HEAD = """#!/usr/bin/env bash
# VoxToy on nothing: a recipe for tests.
# It says what it would do.
set -euo pipefail
cd "$(dirname "$0")"

stage=0                  # first stage to run
stop_stage=7             # last stage to run
ngpu=auto                # GPUs
train_sets="one two"     # sets
extra=                   # more
name=toy                 # of the run

. ../../../tools/recipe.sh
parse_options "$@"
"""
BODY = """
inner=1
if stage 0 "Get"; then run echo "train_sets=$train_sets"; fi
if stage 1 "Prepare"; then run echo "launch=$launch"; echo "cuda=${CUDA_VISIBLE_DEVICES-unset}"; fi
if stage 2 "Finish"; then run echo "extra=$extra"; echo "name=$name"; fi
"""


@pytest.fixture
def recipe(tmp_path, repository):
    """Write run.sh and run it: recipe(body, *options) → CompletedProcess."""
    folder = tmp_path / "egs/toy/voxtoy"
    folder.mkdir(parents=True)
    (tmp_path / "tools").mkdir()
    shutil.copy(repository / "tools/recipe.sh", tmp_path / "tools")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "voxkit").write_text("#!/bin/sh\necho voxkit \"$@\"\n")
    (programs / "voxkit").chmod(0o755)

    def run(body, *options, path=f"{programs}:{os.environ['PATH']}", cwd=None, script=folder / "run.sh", **variables):
        (folder / "run.sh").write_text(HEAD + body)
        environment = {**os.environ, "PATH": path}
        environment.pop("CUDA_VISIBLE_DEVICES", None)
        environment.update(variables)
        return subprocess.run(["bash", str(script), *options], capture_output=True, text=True, env=environment, cwd=cwd)

    return run


class TestRecipe:
    @pytest.mark.parametrize("folder, script", [(".", "egs/toy/voxtoy/run.sh"), ("egs/toy/voxtoy", "./run.sh"),
                                                ("egs", "toy/voxtoy/run.sh")])
    def test_by_a_relative_path_from_anywhere(self, recipe, tmp_path, folder, script):
        result = recipe(BODY, "--train-sets", "three", cwd=tmp_path / folder, script=script)
        assert result.returncode == 0, result.stderr
        assert "train_sets=three" in result.stdout

    def test_all_stages_in_order_with_defaults(self, recipe):
        result = recipe(BODY)
        assert result.returncode == 0, result.stderr
        out = result.stdout
        assert out.index("stage 0: Get") < out.index("stage 1: Prepare") < out.index("stage 2: Finish")
        assert "train_sets=one two" in out and "launch=" in out and "cuda=unset" in out
        assert out.count(" took ") == 3

    def test_stage_and_stop_stage(self, recipe):
        out = recipe(BODY, "--stage", "1", "--stop-stage", "1").stdout
        assert "Prepare" in out and "Get" not in out and "Finish" not in out

    def test_no_stage_in_reach_is_said(self, recipe):
        assert "nothing was run" in recipe(BODY, "--stage", "5").stdout

    @pytest.mark.parametrize("options", [("--train-sets", "a b c"), ("--train-sets=a b c",), ("--train_sets", "a b c")])
    def test_options_set_knobs(self, recipe, options):
        assert "train_sets=a b c" in recipe(BODY, *options).stdout

    def test_a_knob_may_be_called_name(self, recipe):
        assert "name=mine\n" in recipe(BODY, "--name", "mine").stdout and "name=toy\n" in recipe(BODY).stdout

    def test_values_with_quotes_dollars_and_nothing_survive(self, recipe):
        assert "extra=it's $HOME `x` \"q\"" in recipe(BODY, "--extra", "it's $HOME `x` \"q\"").stdout
        assert "train_sets=\n" in recipe(BODY, "--train-sets", "").stdout

    @pytest.mark.parametrize("option", ["--train-set", "--inner", "--PATH", "--launch", "--x;y"])
    def test_unknown_options_list_the_valid_ones(self, recipe, option):
        result = recipe(BODY, option, "x")
        assert result.returncode == 2 and result.stdout == ""
        assert "no option" in result.stderr and "--stage --stop-stage --ngpu --train-sets --extra" in result.stderr

    @pytest.mark.parametrize("options, what", [
        (("--extra",), "needs a value"), (("--extra", "--stage", "3"), "needs a value"), (("3",), "what is '3'"),
        (("--stage", "two"), "a stage is a number"), (("--ngpu", "many"), "auto, 0 (one process, on the CPU)"),
    ])
    def test_mistakes(self, recipe, options, what):
        result = recipe(BODY, *options)
        assert result.returncode == 2 and what in result.stderr and result.stdout == ""

    def test_help_shows_the_comment_and_the_knobs(self, recipe):
        result = recipe(BODY, "--help")
        assert result.returncode == 0
        assert "VoxToy on nothing" in result.stdout and "It says what it would do." in result.stdout
        line = next(line for line in result.stdout.splitlines() if "--train-sets" in line)
        assert '"one two"' in line and line.endswith("sets")
        assert "Get" not in result.stdout and "inner" not in result.stdout

    def test_gpus(self, recipe):
        assert "launch=torchrun --standalone --nproc-per-node=4 -m voxkit.cli.main" in recipe(BODY, "--ngpu", "4").stdout
        assert "cuda=\n" in recipe(BODY, "--ngpu", "0").stdout
        assert "launch=voxkit\n" in recipe(BODY, "--ngpu", "1").stdout

    @pytest.mark.parametrize("gpus, cores, visible, launch", [
        (0, 2, {}, "torchrun --standalone --nproc-per-node=2 -m voxkit.cli.main"), (0, 1, {}, "voxkit"), (1, 8, {}, "voxkit"),
        (1, 8, {"CUDA_VISIBLE_DEVICES": ""}, "torchrun --standalone --nproc-per-node=2 -m voxkit.cli.main")])
    def test_without_a_number_it_is_one_gpu_or_two_processes_on_a_cpu(self, recipe, tmp_path, gpus, cores, visible, launch):
        for name, body in (("nvidia-smi", f"exit {1 - gpus}"), ("getconf", f"echo {cores}")):
            (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
            (tmp_path / "bin" / name).chmod(0o755)
        assert f"launch={launch}\n" in recipe(BODY, **visible).stdout

    @pytest.mark.parametrize("command", ["run sh -c 'exit 7'", "sh -c 'exit 7'"])
    def test_a_failure_names_its_stage_and_stops(self, recipe, command):
        result = recipe(f'if stage 1 "Break"; then\n  {command}\n  echo after\nfi\nif stage 2 "Later"; then echo later; fi\n')
        assert result.returncode == 7
        assert "stage 1 (Break) failed with status 7" in result.stderr and "--stage 1" in result.stderr
        assert "after\n" not in result.stdout and "later" not in result.stdout

    def test_run_shows_the_command_quoted(self, recipe):
        assert "+ echo train_sets=one\\ two" in recipe(BODY).stderr

    def test_without_voxkit_it_says_what_to_do(self, recipe):
        result = recipe(BODY, path="/usr/bin:/bin")
        assert result.returncode == 2 and "no voxkit command" in result.stderr

    def test_no_bash_4(self, repository):
        text = (repository / "tools/recipe.sh").read_text()
        for newer in ("declare -A", "local -A", "mapfile", "readarray", "^^}", ",,}", "local -n", "&>>", "printf '%(", "${@Q}"):
            assert newer not in text, newer

    BESIDE = """
    slow=(sh -c 'echo begun > begun; while [ ! -e decoded ]; do sleep 0.05; done; echo "$0 on $OMP_NUM_THREADS"; exit $1' exported "$extra")
    if stage 1 "Decode"; then
      if [ "$stop_stage" -ge 2 ]; then beside "${slow[@]}"; fi
      until [ "$stop_stage" -lt 2 ] || [ -e begun ]; do sleep 0.05; done
      run touch decoded
    fi
    if stage 2 "Export"; then together "${slow[@]}"; fi
    """

    def test_a_command_beside_others(self, recipe):
        result = recipe(self.BESIDE, "--extra", "0", OMP_NUM_THREADS="")
        assert result.returncode == 0, result.stderr
        assert re.search(r"stage 2: Export\nexported on 1\n", result.stdout) and "stage 2 took" in result.stdout
        assert recipe(self.BESIDE, "--extra", "0", "--stage", "2").stdout.count("exported") == 1  # nothing was begun: it runs now

    def test_a_command_beside_others_that_fails(self, recipe):
        result = recipe(self.BESIDE, "--extra", "5")
        assert result.returncode == 5 and "stage 2 (Export) failed with status 5" in result.stderr and "exported on" in result.stdout

    def test_a_recipe_that_fails_leaves_nothing_running(self, recipe, tmp_path):
        begin = "beside sh -c 'echo $$ > pid; exec sleep 600'; until [ -s pid ]; do sleep 0.05; done"
        assert recipe(f'if stage 1 "Decode"; then {begin}; run false; fi\n').returncode == 1
        pid = int((tmp_path / "egs/toy/voxtoy/pid").read_text())
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


class TestMakeVenv:
    def make(self, repository, folder, python="", path=None):
        environment = {**os.environ, "PYTHON": str(python), **({"PATH": path} if path else {})}
        return subprocess.run([shutil.which("bash"), str(repository / "tools/make_venv.sh"), str(folder)],
                              capture_output=True, text=True, env=environment)

    def interpreter(self, folder, version):
        """Something that says it is Python of a version."""
        fits = "0" if "3.10" <= version <= "3.12" else "1"
        path = folder / f"python-{version}"
        path.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "Python {version}.1" && exit 0\nexit {fits}\n')
        path.chmod(0o755)
        return path

    def test_a_python_out_of_range_is_refused_by_name(self, repository, tmp_path):
        result = self.make(repository, tmp_path / "venv", self.interpreter(tmp_path, "3.13"))
        assert result.returncode == 1
        assert "3.10, 3.11 and 3.12" in result.stderr and "Python 3.13.1" in result.stderr
        assert not (tmp_path / "venv").exists()

    def test_a_python_that_is_not_there(self, repository, tmp_path):
        result = self.make(repository, tmp_path / "venv", "python2.0")
        assert result.returncode == 1 and "PYTHON=python2.0" in result.stderr

    def test_no_python_at_all(self, repository, tmp_path):
        programs = tmp_path / "bin"
        programs.mkdir()
        for name in ("rm", "env"):
            (programs / name).symlink_to(shutil.which(name))
        result = self.make(repository, tmp_path / "venv", path=str(programs))
        assert result.returncode == 1 and "none was found" in result.stderr

    def test_another_folder_is_not_removed(self, repository, tmp_path):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine/thesis.tex").write_text("x")
        result = self.make(repository, tmp_path / "mine")
        assert result.returncode == 1 and "no virtual environment" in result.stderr and (tmp_path / "mine/thesis.tex").exists()

    @pytest.mark.slow
    def test_made_kept_and_mended(self, repository, tmp_path):
        venv = tmp_path / "venv"
        assert "Making" in self.make(repository, venv).stdout
        assert self.make(repository, venv).stdout == ""
        (venv / "bin/python").unlink()
        assert "Making" in self.make(repository, venv).stdout
        assert subprocess.run([venv / "bin/python", "-m", "pip", "--version"], capture_output=True).returncode == 0


@pytest.mark.parametrize("script", ["install_k2.sh", "install_kaldifeat.sh"])
def test_installers_refuse_what_they_do_not_know(repository, script):
    result = subprocess.run([str(repository / "tools" / script), "--frobnicate"], capture_output=True, text=True)
    assert result.returncode == 2 and "--frobnicate" in result.stderr


def test_scripts_parse_and_are_executable(repository):
    for script in [*(repository / "tools").glob("*.sh"), repository / ".ci/run", *(repository / "egs").glob("*/*/run.sh")]:
        assert subprocess.run(["bash", "-n", str(script)], capture_output=True).returncode == 0, script
        assert script.name == "recipe.sh" or os.access(script, os.X_OK), f"{script} is not executable"
