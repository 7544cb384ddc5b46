"""Where cuts may take their audio and features from: files, and bytes that the manifest's own archive holds. Nothing else.

lhotse runs the shell command of a recording of type `command`, follows URLs and opens Kaldi's pipes. A manifest is data that somebody
was given, so every manifest that voxkit reads passes through `check_sources` before lhotse sees it.
"""

from __future__ import annotations

from typing import Any

AUDIO_TYPES = ("file", "memory", "shar")
STORAGE_TYPES = ("lilcom_files", "numpy_files", "lilcom_chunky", "lilcom_hdf5", "chunked_lilcom_hdf5", "numpy_hdf5", "memory_lilcom",
                 "memory_npy", "memory_raw", "shar")
_PLAIN = frozenset(("alignment", "transforms", "channel_ids", "channels"))  # never hold a source; alignments are long


def check_sources(manifest: Any, where: str) -> None:
    """Look through a cut, recording or features, as a dict, for sources that are neither files nor memory.

    Args:
        manifest: decoded JSON, or `to_dict()` of a lhotse object.
        where: names it in the error, for instance file and line.

    Raises:
        ValueError: names the cut or recording, its source, and what to do.
    """
    if isinstance(manifest, dict):
        if "source" in manifest and "channels" in manifest:
            check_audio(manifest, where)
        elif "storage_type" in manifest:
            _check_storage(manifest, where)
        for key, value in manifest.items():
            if type(value) in (dict, list) and key not in _PLAIN:
                check_sources(value, where)
    elif isinstance(manifest, list):
        for value in manifest:
            if type(value) in (dict, list):
                check_sources(value, where)


def check_audio(source: dict[str, Any], where: str) -> None:
    """Refuse one audio source, as `check_sources`."""
    kind = source.get("type")
    if kind not in AUDIO_TYPES:
        what = {"command": "is the output of a command, and voxkit runs no commands from data",
                "url": "is at a URL, and voxkit follows none from data"}.get(str(kind), f"is of type {kind!r}")
        raise ValueError(f"{where}: audio {what}: {str(source['source'])[:80]!r}. Write it to a file and name that")
    if kind == "file" and _is_pipe(source["source"]):
        raise ValueError(f"{where}: audio is the output of a command, and voxkit runs no commands from data: "
                         f"{str(source['source'])[:80]!r}. Write it to a file and name that")


def _check_storage(features: dict[str, Any], where: str) -> None:
    kind = features["storage_type"]
    if kind not in STORAGE_TYPES:
        why = "; an scp of Kaldi's may run commands" if "kaldi" in str(kind) else ""
        raise ValueError(f"{where}: features in a storage of type {kind!r}, which voxkit does not open{why}. Copy them first: "
                         "CutSet.copy_data or `lhotse feat` with lilcom_chunky or numpy_files")
    for key in ("storage_path", "storage_key"):
        if _is_pipe(features.get(key)):
            raise ValueError(f"{where}: features are the output of a command or at a URL, and voxkit runs and follows none from data: "
                             f"{features[key][:80]!r}. Copy them to files first")


def _is_pipe(path: Any) -> bool:
    return isinstance(path, str) and (path.startswith(("pipe:", "|")) or path.rstrip().endswith("|") or "://" in path)
