"""Kaldi data directories: wav.scp, text, and where they are there utt2spk and segments (kaldi-asr.org/doc/data_prep.html)."""

from __future__ import annotations

from pathlib import Path

from voxkit.data.corpora.readers import Found, Utterance, usual_name


def find_kaldi(root: Path) -> list[Path]:
    """The folder itself, or those right below it, that hold a wav.scp."""
    return [root] if (root / "wav.scp").is_file() else sorted(p.parent for p in root.glob("*/wav.scp"))


def read_kaldi(folders: list[Path]) -> Found:
    """Utterances of Kaldi directories; with several, each is a set of its own.

    Raises:
        ValueError: no text beside wav.scp, or a wav.scp with commands.
    """
    found = Found("Kaldi directory")
    for folder in folders:
        name = usual_name(folder.name)
        if len(folders) == 1 and name not in ("train", "dev", "test"):
            name = ""
        found.sets[name] += _read(folder, found)
    return found


def _read(folder: Path, found: Found) -> list[Utterance]:
    if not (folder / "text").is_file():
        raise ValueError(f"{folder}: a wav.scp but no `text` with the transcripts: <utterance> <words> on each line")
    recordings = {id: _audio(folder, id, rest) for id, rest in _table(folder / "wav.scp", found)}
    texts = dict(_table(folder / "text", found))
    speakers = dict(_table(folder / "utt2spk", found))
    utterances = []
    if (folder / "segments").is_file():
        for id, rest in _table(folder / "segments", found):
            utterance = Utterance(id, texts.pop(id, None), speaker=speakers.get(id))
            try:
                name, start, end = rest.split()[:3]
                utterance.recording_id, utterance.audio = name, recordings.get(name)
                utterance.start, utterance.end = float(start), float(end) if float(end) >= 0 else None
                if utterance.audio is None:
                    utterance.problem = ("missing audio", f"segments names recording {name!r}, which wav.scp lacks")
            except ValueError:
                utterance.problem = ("unreadable times", f"{folder / 'segments'}: {id} {rest}")
            utterances.append(utterance)
    else:
        utterances += [Utterance(id, texts.pop(id, None), audio, speakers.get(id)) for id, audio in recordings.items()]
    utterances += [Utterance(id, text, problem=("missing audio", f"in {folder / 'text'} only")) for id, text in texts.items()]
    return utterances


def _table(path: Path, found: Found) -> list[tuple[str, str]]:
    """(first word, rest) of every line; nothing where there is no such file."""
    if not path.is_file():
        return []
    found.files.append(path)
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [(parts[0], parts[1].strip() if len(parts) > 1 else "") for line in lines if (parts := line.split(maxsplit=1))]


def _audio(folder: Path, id: str, rest: str) -> Path:
    if rest.startswith("|") or rest.endswith("|"):
        raise ValueError(f"{folder / 'wav.scp'}: recording {id} is the output of a command ({rest[:80]}), and voxkit runs no commands "
                         "from data; write the audio to files first (Kaldi's wav-copy does) and name those")
    path = Path(rest).expanduser()
    if path.is_absolute():
        return path
    # Kaldi's own paths start where its run.sh stood: the directory above data/<set>, as a rule.
    return next((p / path for p in (folder, *folder.parents[:3], Path.cwd()) if (p / path).is_file()), folder / path)
