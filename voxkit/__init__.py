"""voxkit: a recipe-based speech toolkit. Start at README.md; `voxkit --help` lists the commands."""

__version__ = "0.1.0"
