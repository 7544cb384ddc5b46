"""`voxkit doctor`: what is installed, what each absence costs, the command that mends it; disk, memory, devices, a batch duration."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

from voxkit import __version__
from voxkit.doctor import machine as machines
from voxkit.doctor import packages

_SIGNS = {packages.OK: "ok", packages.MISSING: "--", packages.BROKEN: "XX", packages.MISMATCH: "!!"}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add `doctor` to the commands."""
    parser = subparsers.add_parser("doctor", help="what is installed, what is missing, what mends it", description=__doc__)
    parser.add_argument("--json", action="store_true", help="the whole report as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the report.

    Returns:
        0; 1 where something that voxkit needs is missing, broken or does not fit.
    """
    found = packages.look()
    machine = machines.look()
    bad = [f for f in found if f.status != packages.OK and (f.needed or f.status != packages.MISSING)]
    needed = [f for f in bad if f.needed]
    if args.json:
        report = {"voxkit": __version__, "packages": [dataclasses.asdict(f) for f in found], "machine": dataclasses.asdict(machine),
                  "warnings": machines.warnings(machine), "healthy": not needed}
        print(json.dumps(report, indent=2))
    else:
        print("\n".join(report_lines(found, machine)))
        sys.stdout.flush()
    return 1 if needed else 0


def report_lines(found: list[packages.PackageState], machine: machines.Machine) -> list[str]:
    """The report for people."""
    lines = [f"voxkit {__version__}, Python {machine.python}, {machine.system}", ""]
    for title, group in (("Needed", [f for f in found if f.needed]), ("Optional", [f for f in found if not f.needed])):
        lines.append(title)
        for f in group:
            lines.append(f"  {_SIGNS[f.status]}  {f.name:<17}{f.version or 'not installed'}")
            if f.cause:
                lines.append(f"      {f.cause}")
            if f.status != packages.OK:
                lines.append(f"      costs: {f.costs}")
                lines.append(f"      mend:  {f.mend}")
        lines.append("")
    lines += [
        "Machine",
        f"  CPU       {machine.cpu}, {machine.usable_cores} of {machine.cores} cores usable",
        f"            {' '.join(machine.flags) or 'no instruction set that voxkit looks for'}",
        f"  memory    {machine.available_gb:.1f} GB available of {machine.memory_gb:.1f} GB",
        f"  disk      {machine.disk_free_gb:.1f} GB free here",
    ]
    accelerators = [d for d in machine.devices if d.kind != "cpu"]
    for d in accelerators:
        lines.append(f"  {d.kind:<10}{d.name}, {d.memory_gb:.1f} GB free" + (f" ({d.detail})" if d.detail else ""))
    if not accelerators:
        lines.append("  GPU       none that torch can use; the toy and mini recipes are made for that")
    lines += [
        "", f"Begin with data.max_duration={machine.max_duration:.0f} (seconds of audio per batch on {machine.devices[0].name}).",
        "That is a rule of thumb; `data.max_duration=auto` measures.",
    ]
    warnings = machines.warnings(machine)
    bad = [f.name for f in found if f.needed and f.status != packages.OK]
    lines += [f"Warning: {w}" for w in warnings]
    broken = [f.name for f in found if not f.needed and f.status not in (packages.OK, packages.MISSING)]
    if broken:
        lines.append(f"Broken, though optional: {', '.join(broken)}. Mend or uninstall them.")
    lines.append(f"NOT healthy: {', '.join(bad)}." if bad else "Everything that is needed works.")
    return lines
