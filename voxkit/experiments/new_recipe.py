"""A recipe for other data: a copy of one that is there, whose knobs of data point elsewhere."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

# What a run.sh calls its data; every recipe begins with these knobs (egs/README.md).
DATA_KNOBS = ("corpus", "corpus_dir", "parts", "train_sets", "dev_sets", "test_sets")

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*$")
_SOURCE_LINE = re.compile(r"^(\.|source) .*tools/recipe\.sh\s*$", re.M)


def make(name: str, template: str, data: str, egs: Path | None = None, force: bool = False) -> Path:
    """Copy a recipe and point its knobs at other data.

    Args:
        name: folder of the new recipe under egs, also the corpus's name.
        template: "dataset/model" of the recipe to copy.
        data: "kind:path", kind being a module of voxkit/data/corpora, or "lhotse:name:path".
        egs: where recipes are; None finds it.
        force: overwrite.

    Returns:
        The new folder.

    Raises:
        ValueError: a bad name, an unknown template or kind, a template whose run.sh lacks the data knobs, data that cannot be used.
        FileNotFoundError: no egs folder, or no data.
        FileExistsError: the recipe is there already.
    """
    if not _NAME.match(name):
        raise ValueError(f"recipe name {name!r}: use lower-case letters, digits, - and _")
    home = find_egs()
    egs = (egs or home).resolve()
    source = _template(template, [egs, home])
    kind, path = _data(data)
    target = egs / name / source.name
    if target.resolve() == source.resolve():
        raise ValueError(f"{name}/{source.name} is the template itself: choose another name")
    if (target / "run.sh").exists() and not force:
        raise FileExistsError(f"{target}/run.sh is there already: choose another name, or --force to overwrite run.sh and conf/")

    values = {"corpus": kind, "corpus_dir": str(path)}
    if kind != source.parent.name:
        values |= {"parts": "", **set_names(path if kind == "folder" else None)}
    text = set_knobs((source / "run.sh").read_text(encoding="utf-8"), values, f"{template}/run.sh")
    text = _at_home(text, target, source)
    shebang, _, rest = text.partition("\n")
    text = f"{shebang}\n# {name}: made by `voxkit new-recipe` out of {template}, which says of itself:\n{rest}"
    target.mkdir(parents=True, exist_ok=True)
    (target / "run.sh").write_text(text, encoding="utf-8")
    (target / "run.sh").chmod(0o755)
    for folder in ("conf", "local"):
        if (source / folder).is_dir():
            shutil.copytree(source / folder, target / folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def set_knobs(text: str, values: dict[str, str], where: str) -> str:
    """Give knobs of a run.sh other defaults; the comment behind a knob stays.

    Raises:
        ValueError: run.sh has no such knobs.
    """
    end = _SOURCE_LINE.search(text)
    head, tail = (text[:end.start()], text[end.start():]) if end else (text, "")
    missing = [name for name in values if not re.search(rf"^{name}=", head, re.M)]
    if missing:
        raise ValueError(f"{where} has no knob {', '.join(missing)}: it cannot be copied for other data (egs/README.md lists the knobs)")
    for name, value in values.items():
        line = re.compile(rf"""^{name}=(?:"[^"]*"|'[^']*'|[^\s#]*)(?P<rest>.*)$""", re.M)
        found = line.search(head)
        assert found is not None  # checked above
        setting, comment = f"{name}={_quote(value)}", found["rest"].lstrip()
        if comment:  # in its column again, where the value leaves room
            column = found.end() - found.start() - len(comment)
            setting = f"{setting:<{column - 1}} {comment}"
        head = f"{head[:found.start()]}{setting}{head[found.end():]}"
    return head + tail


def find_egs() -> Path:
    """./egs, or a parent's, else egs beside the installed package.

    Raises:
        FileNotFoundError: neither is there.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "egs").is_dir() and any((folder / "egs").glob("*/*/run.sh")):
            return folder / "egs"
    beside = Path(__file__).resolve().parents[2] / "egs"
    if beside.is_dir():
        return beside
    raise FileNotFoundError("no egs folder here, and voxkit is not installed from a checkout: run this in a clone of voxkit, or give --egs")


def _template(template: str, places: list[Path]) -> Path:
    for egs in places:
        if (egs / template / "run.sh").is_file():
            return egs / template
    there = sorted({str(p.parent.relative_to(egs)) for egs in places for p in egs.glob("*/*/run.sh")})
    raise ValueError(f"no recipe {template!r} to copy; there are: {', '.join(there) or 'none'}")


def _data(data: str) -> tuple[str, Path]:
    kind, colon, path = data.partition(":")
    kinds = corpus_kinds()
    if kind == "lhotse":
        name, colon, path = path.partition(":")
        if not colon or not path:
            raise ValueError(f"--data {data}: write lhotse:NAME:PATH, for example lhotse:aishell:/corpora/aishell")
        from voxkit.data.corpora.lhotse import find_recipe

        find_recipe(name)
        kind = f"lhotse:{name}"
    if not colon or not path:
        raise ValueError(f"--data {data}: write KIND:PATH, for example folder:{data}; kinds: {', '.join(kinds)}")
    if kind.partition(":")[0] not in kinds:
        raise ValueError(f"--data {data}: no corpus {kind!r}; there are: {', '.join(kinds)}")
    folder = Path(path).expanduser().resolve()
    if not folder.exists():
        raise FileNotFoundError(f"--data {data}: there is no {folder}")
    return kind, folder


def set_names(folder: Path | None) -> dict[str, str]:
    """The knobs that name sets: train, dev and test, which preparation makes of a folder that names none; where a folder has no train but
    names such as train_clean, its own.

    Raises:
        ValueError: nothing in the folder that preparation could use; it looks at every file itself later.
    """
    from voxkit.data.corpora.folder import read_folder

    there = {name or "train" for name in read_folder(folder).sets} if folder is not None else {"train"}
    names = {}
    for usual, starts in (("train", ("train", "trn")), ("dev", ("dev", "val")), ("test", ("test", "eval"))):
        like = sorted(name for name in there if name.lower().startswith(starts)) if "train" not in there else []
        names[f"{usual}_sets"] = " ".join(like) or usual
    return names


def corpus_kinds() -> list[str]:
    """Corpora that `voxkit prepare` knows, from the files of voxkit/data/corpora."""
    folder = Path(__file__).resolve().parents[1] / "data" / "corpora"
    return sorted(p.stem for p in folder.glob("*.py") if not p.stem.startswith("_"))


def _at_home(text: str, target: Path, source: Path) -> str:
    """Where the new recipe lies outside the checkout, its run.sh names the checkout's recipe.sh by its full path."""
    if (target / "../../../tools/recipe.sh").resolve().is_file() or (target.parents[2] / "tools" / "recipe.sh").is_file():
        return text
    shared = (source.parents[2] / "tools" / "recipe.sh").resolve()
    return _SOURCE_LINE.sub(lambda m: f". {_quote(str(shared))}", text)


def _quote(value: str) -> str:
    import shlex

    return shlex.quote(value) if value else ""
