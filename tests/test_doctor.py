"""The doctor: which wheel fits, why an import breaks, what a machine can hold."""

import dataclasses
import json
import sys

import pytest

from voxkit.cli import doctor as command
from voxkit.doctor import machine, packages, wheels
from voxkit.doctor.wheels import NoWheel, Target

LINUX = Target("2.8.0", None, "cp311", "linux", "x86_64")
MANYLINUX = "manylinux_2_27_x86_64.manylinux_2_28_x86_64"


def page(*names):
    """A page as both projects publish it: links with %2B for + in the file's name."""
    links = (f'<a href="https://example.org/k2/{name.replace("+", "%2B")}">{name}</a><br/>' for name in names)
    return "<html><body>" + "\n".join(links) + "</body></html>"


CPU = page(
    f"k2-1.24.4.dev20240905+cpu.torch2.8.0-cp311-cp311-{MANYLINUX}.whl",
    f"k2-1.24.4.dev20250807+cpu.torch2.8.0-cp311-cp311-{MANYLINUX}.whl",
    f"k2-1.24.4.dev20250807+cpu.torch2.8.0-cp312-cp312-{MANYLINUX}.whl",
    f"k2-1.24.4.dev20250807+cpu.torch2.7.1-cp311-cp311-{MANYLINUX}.whl",
    "k2-1.24.4.dev20250807+cpu.torch2.8.0-cp311-cp311-macosx_11_0_arm64.whl",
    "k2-1.24.4.dev20250807+cpu.torch2.8.0-cp311-cp311-win_amd64.whl",
    "k2-1.24.4.dev20250807+cpu.torch2.8.0-cp311-cp311-manylinux_2_28_aarch64.whl",
    f"k2-1.24.4.dev20231022+cpu.torch1.13.1-cp38-cp38-{MANYLINUX}.whl",
)
CUDA = page(
    f"k2-1.24.4.dev20250807+cuda12.6.torch2.8.0-cp311-cp311-{MANYLINUX}.whl",
    f"k2-1.24.4.dev20250807+cuda12.8.torch2.8.0-cp311-cp311-{MANYLINUX}.whl",
)


class TestWheels:
    def test_newest_fitting(self):
        wheel = wheels.choose(wheels.parse(CPU), "k2", LINUX)
        assert wheel.requirement == "k2==1.24.4.dev20250807+cpu.torch2.8.0"
        assert "cp311" in wheel.url and "x86_64" in wheel.url and "%2Bcpu" in wheel.url

    @pytest.mark.parametrize("system, machine_name, part", [("darwin", "arm64", "macosx"), ("linux", "aarch64", "aarch64")])
    def test_platforms(self, system, machine_name, part):
        target = dataclasses.replace(LINUX, system=system, machine=machine_name)
        assert part in wheels.choose(wheels.parse(CPU), "k2", target).platform

    def test_cuda_of_torch_decides(self):
        target = dataclasses.replace(LINUX, cuda="12.8")
        assert wheels.page("k2", target).endswith("cuda.html")
        assert wheels.choose(wheels.parse(CUDA), "k2", target).build == "cuda12.8"

    def test_macos_torch_has_no_cuda_page(self):
        assert wheels.page("kaldifeat", dataclasses.replace(LINUX, system="darwin")) == "https://csukuangfj.github.io/kaldifeat/cpu.html"

    def test_no_wheel_for_this_torch_says_which_have_one(self):
        with pytest.raises(NoWheel, match=r"torch 2\.11\.0 .*torch 2\.7\.1, 2\.8\.0"):
            wheels.choose(wheels.parse(CPU), "k2", dataclasses.replace(LINUX, torch="2.11.0"))

    def test_no_wheel_for_this_cuda(self):
        with pytest.raises(NoWheel, match=r"cuda13\.0.*cuda12\.6, cuda12\.8"):
            wheels.choose(wheels.parse(CUDA), "k2", dataclasses.replace(LINUX, cuda="13.0"))

    def test_no_wheel_for_this_python(self):
        with pytest.raises(NoWheel, match=r"Python cp310.*cp311, cp312"):
            wheels.choose(wheels.parse(CPU), "k2", dataclasses.replace(LINUX, python="cp310"))

    def test_no_wheel_for_this_machine(self):
        with pytest.raises(NoWheel, match="from source"):
            wheels.choose(wheels.parse(CPU), "k2", dataclasses.replace(LINUX, machine="ppc64le"))

    def test_relative_links_and_hashes(self):
        name = f"kaldifeat-1.25.5.dev20250203%2Bcpu.torch2.6.0-cp310-cp310-{MANYLINUX}.whl"
        found = wheels.parse(f"<a href='wheels/{name}#sha256=abc'>x</a>", "https://example.org/kaldifeat/cpu.html")
        assert [w.url for w in found] == [f"https://example.org/kaldifeat/wheels/{name}"]
        assert (found[0].package, found[0].version, found[0].torch) == ("kaldifeat", "1.25.5.dev20250203", "2.6.0")

    def test_unknown_package(self):
        with pytest.raises(ValueError, match="k2, kaldifeat"):
            wheels.page("k3", LINUX)

    def test_find_reads_the_page(self, monkeypatch):
        import io

        monkeypatch.setattr(wheels.urllib.request, "urlopen", lambda url, timeout: io.BytesIO(CPU.encode()))
        assert wheels.find("k2", LINUX).torch == "2.8.0"

    def test_this_machine(self):
        target = wheels.this_machine()
        assert target.python == f"cp3{sys.version_info.minor}" and target.torch.count(".") == 2


class TestPackages:
    def test_probe_tells_missing_broken_and_dead_apart(self, tmp_path, monkeypatch):
        (tmp_path / "breaks_symbol.py").write_text("raise ImportError('/x/_k2.so: undefined symbol: _ZN3c104impl')")
        (tmp_path / "dies_at_import.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
        (tmp_path / "fine_after_that.py").write_text("print('noise on stdout')")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        errors = packages.probe(["breaks_symbol", "dies_at_import", "fine_after_that", "not_there_at_all"])
        assert "undefined symbol" in errors["breaks_symbol"]
        assert errors["dies_at_import"] == "died with signal 11"
        assert "fine_after_that" not in errors
        assert "No module named" in errors["not_there_at_all"]

    @pytest.mark.parametrize("error, cause", [
        ("/x/_k2.so: undefined symbol: _ZN3c10", "another torch"),
        ("libcudart.so.12: cannot open shared object file: No such file or directory", "CUDA"),
        ("/lib/libm.so.6: version `GLIBC_2.38' not found", "newer Linux"),
        ("numpy.core.multiarray failed to import", "NumPy 1"),
        ("died with signal 11", "crashed"),
        ("something else", "cannot be imported"),
    ])
    def test_causes(self, error, cause):
        assert cause in packages.explain(error)

    def test_broken_k2_is_shown_with_cause_and_installer(self, monkeypatch):
        k2 = [p for p in packages.PACKAGES if p.name in ("torch", "k2")]
        versions = {"torch": "2.8.0+cu128", "k2": "1.24.4.dev20250807+cuda12.6.torch2.7.1"}
        monkeypatch.setattr(packages, "_version", versions.get)
        monkeypatch.setattr(packages, "probe", lambda modules: {"k2": "/x/_k2.so: undefined symbol: _ZN3c10"})
        torch, found = packages.look(k2)
        assert torch.status == packages.OK
        assert found.status == packages.BROKEN and "another torch" in found.cause and "undefined symbol" in found.cause
        assert found.mend.startswith("tools/install_k2.sh") and "torch 2.8.0" in found.mend

    def test_a_package_that_only_lies_on_the_path_is_found(self, monkeypatch):
        monkeypatch.setattr(packages, "_version", lambda name: None)
        monkeypatch.setattr(packages, "available", lambda module: module == "k2")
        monkeypatch.setattr(packages, "probe", lambda modules: dict.fromkeys(set(modules) - {"k2"}, "not to be looked at"))
        k2, kaldifeat = packages.look(p for p in packages.PACKAGES if p.name in ("k2", "kaldifeat"))
        assert (k2.status, k2.version) == (packages.OK, packages.UNPACKAGED) and kaldifeat.status == packages.MISSING

    def test_k2_for_another_torch_is_a_mismatch_even_where_it_loads(self, monkeypatch):
        chosen = [p for p in packages.PACKAGES if p.name in ("torch", "k2")]
        monkeypatch.setattr(packages, "_version", lambda name: {"torch": "2.8.0", "k2": "1.24.4.dev20250807+cpu.torch2.7.1"}[name])
        monkeypatch.setattr(packages, "probe", lambda modules: {})
        assert packages.look(chosen)[1].status == packages.MISMATCH

    def test_no_wheel_is_known_for_this_torch(self):
        kaldifeat = next(p for p in packages.PACKAGES if p.name == "kaldifeat")
        told = packages.mend(kaldifeat, {"torch": "2.99.0"})
        assert "no wheel for torch 2.99.0" in told and "2.6.0" in told and "source" in told

    @pytest.mark.parametrize("torch, torchaudio, fits", [
        ("2.11.0", "2.11.0", True), ("2.11.0+cpu", "2.11.0+cpu", True), ("2.11.0", "2.11.0+cu130", True),
        ("2.13.0", "2.11.0", False), ("2.8.0", "2.11.0", False), ("2.11.0+cu130", "2.11.0+cpu", False),
    ])
    def test_torch_and_torchaudio_come_in_pairs(self, monkeypatch, torch, torchaudio, fits):
        pair = [p for p in packages.PACKAGES if p.name in ("torch", "torchaudio")]
        monkeypatch.setattr(packages, "_version", lambda name: {"torch": torch, "torchaudio": torchaudio}[name])
        monkeypatch.setattr(packages, "probe", lambda modules: {})
        found = packages.look(pair)[1]
        assert (found.status == packages.OK) == fits
        if not fits:
            assert found.needed and found.mend.startswith("pip install torch==2.") and "torchaudio==2." in found.mend

    def test_a_missing_extra_names_its_command(self, monkeypatch):
        monkeypatch.setattr(packages, "available", lambda module: False)
        monkeypatch.setattr(packages, "_version", lambda name: None)
        found = {f.name: f for f in packages.look()}
        assert "'.[pretrained]'" in found["transformers"].mend
        assert found["torch"].mend == "pip install torch==2.11.0 torchaudio==2.11.0"
        assert all(f.mend and f.costs for f in found.values())

    def test_every_extra_exists(self, repository):
        text = (repository / "setup.py").read_text()
        for p in packages.PACKAGES:
            if p.extra not in (None, *wheels.PAGES):
                assert f'"{p.extra}":' in text, p


class TestMachine:
    @pytest.mark.parametrize("kind, gigabytes", [("cpu", 4), ("cpu", 16), ("cuda", 8), ("cuda", 24), ("cuda", 80), ("mps", 16)])
    def test_suggestion_grows_with_memory_within_bounds(self, kind, gigabytes):
        smaller = machine.suggest_max_duration(machine.Device(kind, "x", gigabytes))
        larger = machine.suggest_max_duration(machine.Device(kind, "x", 2 * gigabytes))
        assert 10 <= smaller <= larger <= machine._LARGEST[kind]
        assert smaller % 10 == 0

    def test_look(self, tmp_path):
        found = machine.look(tmp_path)
        assert found.usable_cores >= 1 and found.memory_gb > 0.5 and found.disk_free_gb >= 0
        assert found.devices[-1].kind == "cpu" and found.max_duration >= 10

    def test_warnings(self, tmp_path):
        small = dataclasses.replace(machine.look(tmp_path), disk_free_gb=1.0, memory_gb=2.0, shm_free_gb=0.06)
        text = " ".join(machine.warnings(small))
        assert "disk" in text and "memory" in text and "--shm-size" in text


class TestCommand:
    @pytest.fixture
    def quick(self, monkeypatch):
        """The real look at the machine; packages without importing them."""
        monkeypatch.setattr(packages, "probe", lambda modules: {})
        return monkeypatch

    def run(self, *options):
        from voxkit.cli.main import main

        return main(["doctor", *options])

    def test_report(self, quick, capsys):
        assert self.run() == 0
        shown = capsys.readouterr().out
        for part in ("torch ", "k2", "kaldifeat", "memory", "disk", "max_duration=", "Everything that is needed works"):
            assert part in shown

    def test_json(self, quick, capsys):
        assert self.run("--json") == 0
        report = json.loads(capsys.readouterr().out)
        assert report["healthy"] is True and report["machine"]["max_duration"] >= 10
        assert {"name", "status", "version", "needed", "costs", "cause", "mend"} == set(report["packages"][0])

    def test_status_where_something_needed_is_broken(self, monkeypatch, capsys):
        monkeypatch.setattr(packages, "probe", lambda modules: {"torchaudio": "undefined symbol: x"})
        assert self.run() == 1
        assert "NOT healthy: torchaudio" in capsys.readouterr().out

    def test_an_optional_break_is_told_and_no_failure(self, monkeypatch, capsys):
        found = [packages.PackageState("k2", packages.BROKEN, "1.24", False, "costs", "cause", "mend")]
        lines = command.report_lines(found, machine.look())
        assert any("Broken, though optional: k2" in line for line in lines)
