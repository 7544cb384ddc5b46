"""Lines of code in Python files, without blank lines, comments and docstrings: `python tools/code_lines.py FILE_OR_FOLDER...`."""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from pathlib import Path

_NOT_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER, tokenize.ENCODING}


def code_lines(text: str) -> int:
    """Lines that hold a token of code; a docstring holds none."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NOT_CODE:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(node) is not None:
            lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(lines)


def main(paths: list[str]) -> None:
    total = 0
    for given in map(Path, paths):
        files = sorted(given.rglob("*.py")) if given.is_dir() else [given]
        count = sum(code_lines(file.read_text(encoding="utf-8")) for file in files)
        total += count
        print(f"{count:6d}  {given}")
    print(f"{total:6d}  in all")


if __name__ == "__main__":
    main(sys.argv[1:] or ["."])
