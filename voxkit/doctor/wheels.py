"""The official wheel of k2 or kaldifeat that fits this torch, CUDA and Python.

Both publish one wheel per torch, CUDA and Python, all under one version with a local part, as in
`k2-1.24.4.dev20250807+cuda12.8.torch2.8.0-cp311-cp311-manylinux_2_28_x86_64.whl`, listed on a page that pip reads with `-f`.
pip cannot choose among them (to it, they are versions of one package), so the page is read and the fitting one chosen here.
`pip install k2` from the index gets a build from 2023 for another torch: the source of every "undefined symbol" (k2#409).

    python -m voxkit.doctor.wheels k2            the requirement for pip
    python -m voxkit.doctor.wheels k2 --url      the wheel's address
"""

from __future__ import annotations

import argparse
import html
import platform
import re
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass

PAGES = {
    "k2": "https://k2-fsa.github.io/k2/{kind}.html",
    "kaldifeat": "https://csukuangfj.github.io/kaldifeat/{kind}.html",
}

# torch versions from 2.6 on that the projects' documentation (k2, mid-2026) and build scripts (kaldifeat, mid-2025) list: for messages
# without a network. The page decides.
KNOWN_TORCH = {
    "k2": ("2.6.0", "2.7.0", "2.7.1", "2.8.0", "2.9.0", "2.9.1", "2.10.0", "2.11.0", "2.12.0", "2.12.1", "2.13.0"),
    "kaldifeat": ("2.6.0", "2.7.0", "2.7.1"),
}

_NAME = re.compile(
    r"(?P<package>k2|kaldifeat)-(?P<version>[\w.]+)\+(?P<build>cpu|(?:cuda|rocm)[\d.]+?)\.torch(?P<torch>\d+\.\d+\.\d+)"
    r"-(?P<python>cp\d+)-\w+-(?P<platform>[\w.]+)\.whl$")


@dataclass(frozen=True)
class Target:
    """What a wheel has to fit: torch "2.8.0", CUDA "12.8" or None, Python tag "cp311", system "linux" or "darwin", machine "x86_64"."""

    torch: str
    cuda: str | None
    python: str
    system: str
    machine: str

    @property
    def kind(self) -> str:
        """Which of the two pages lists it."""
        return "cuda" if self.cuda and self.system == "linux" else "cpu"

    def __str__(self) -> str:
        build = f"CUDA {self.cuda}" if self.kind == "cuda" else "CPU"
        return f"torch {self.torch}, {build}, Python {self.python[2]}.{self.python[3:]}, {self.system} {self.machine}"


@dataclass(frozen=True)
class Wheel:
    """One wheel of a page."""

    package: str
    version: str
    build: str
    torch: str
    python: str
    platform: str
    url: str

    @property
    def requirement(self) -> str:
        """As pip takes it, beside `-f` and the page."""
        return f"{self.package}=={self.version}+{self.build}.torch{self.torch}"


class NoWheel(LookupError):
    """No published wheel fits; the message says which torch versions have one."""


def this_machine() -> Target:
    """The target for the torch that is installed here."""
    import torch

    return Target(torch.__version__.split("+")[0], torch.version.cuda, f"cp{sys.version_info.major}{sys.version_info.minor}",
                  platform.system().lower(), platform.machine().lower())


def page(package: str, target: Target) -> str:
    """Address of the page that lists the package's wheels for this kind of torch."""
    if package not in PAGES:
        raise ValueError(f"no wheels known for {package!r}; there are: {', '.join(PAGES)}")
    return PAGES[package].format(kind=target.kind)


def parse(text: str, address: str = "") -> list[Wheel]:
    """Every wheel named by the links of a page."""
    found = {}
    for link in re.findall(r"""href\s*=\s*["']([^"']+\.whl)(?:#[^"']*)?["']""", text):
        url = urllib.parse.urljoin(address, html.unescape(link))
        match = _NAME.search(urllib.parse.unquote(url.rsplit("/", 1)[-1]))
        if match:
            found[url] = Wheel(url=url, **match.groupdict())
    return list(found.values())


def choose(wheels: Iterable[Wheel], package: str, target: Target) -> Wheel:
    """The newest wheel that fits.

    Raises:
        NoWheel: none does; says which part does not fit and what there is instead.
    """
    left = [w for w in wheels if w.package == package and _runs_on(w, target)]
    if not left:
        raise NoWheel(f"{package}: no wheel for {target.system} {target.machine} on {page(package, target)}; build it from source")
    for attribute, wanted, called in (
        ("torch", target.torch, "torch"), ("build", _build(target), "build"), ("python", target.python, "Python"),
    ):
        fitting = [w for w in left if _fits(getattr(w, attribute), wanted, attribute)]
        if not fitting:
            there = sorted({getattr(w, attribute) for w in left}, key=_order)
            there = [v for v in there if attribute != "torch" or _order(v) >= _order("2.6")] or there[-5:]
            raise NoWheel(f"{package}: no wheel is published for {called} {wanted} ({target}); there are wheels for {called} "
                          f"{', '.join(there)}")
        left = fitting
    return max(left, key=lambda w: (_order(w.version), _order(w.build)))


def find(package: str, target: Target, timeout: float = 20) -> Wheel:
    """Read the package's page and choose.

    Raises:
        NoWheel: none fits.
        OSError: the page cannot be reached.
    """
    address = page(package, target)
    with urllib.request.urlopen(address, timeout=timeout) as answer:
        return choose(parse(answer.read().decode("utf-8", "replace"), address), package, target)


def known(package: str, torch_version: str) -> bool:
    """Whether wheels for this torch were published when this file was written."""
    return torch_version.split("+")[0] in KNOWN_TORCH[package]


def _runs_on(wheel: Wheel, target: Target) -> bool:
    if target.system == "linux":
        return "linux" in wheel.platform and target.machine in wheel.platform
    if target.system == "darwin":
        return wheel.platform.startswith("macosx") and (target.machine in wheel.platform or "universal2" in wheel.platform)
    return wheel.platform.startswith("win")


def _build(target: Target) -> str:
    return f"cuda{target.cuda}" if target.kind == "cuda" else "cpu"


def _fits(value: str, wanted: str, attribute: str) -> bool:
    """Equal; for CUDA builds the same major.minor (12.8 and 12.8.1 are one)."""
    if attribute == "build" and wanted.startswith("cuda"):
        return value.startswith("cuda") and value[4:].split(".")[:2] == wanted[4:].split(".")[:2]
    return value == wanted


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version))


def main() -> int:
    """Print the fitting wheel; status 3 where none is published, 4 where the page cannot be read."""
    parser = argparse.ArgumentParser(description="the official wheel of k2 or kaldifeat that fits this torch")
    parser.add_argument("package", choices=sorted(PAGES))
    parser.add_argument("--url", action="store_true", help="the wheel's address instead of the requirement")
    args = parser.parse_args()
    target = this_machine()
    try:
        wheel = find(args.package, target)
    except NoWheel as error:
        print(error, file=sys.stderr)
        return 3
    except OSError as error:
        print(f"{page(args.package, target)} cannot be read ({error}); on a machine that reaches it, choose the newest wheel for {target}, "
              "then: pip install --no-deps FILE.whl", file=sys.stderr)
        return 4
    print(wheel.url if args.url else wheel.requirement)
    return 0


if __name__ == "__main__":
    sys.exit(main())
