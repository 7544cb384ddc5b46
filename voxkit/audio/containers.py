"""What a file of audio is, by its first bytes, and whether it ends before it should: what the decoder does not tell.

libsndfile takes the part of a cut-off WAV or Ogg file that is there for all of it. The containers know better: the data chunk of WAV, AIFF
and AU says how long it is, the last page of an Ogg stream is marked as the last (RFC 3533), FLAC counts its samples (RFC 9639; compared
where it is decoded).
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

TOLERANCE = 0.025  # seconds that may lack without a word

# what libsndfile cannot decode, by first bytes: (offset, bytes, name)
_FOREIGN = ((4, b"ftyp", "MPEG-4 audio or video (m4a, mp4: AAC or ALAC)"), (0, b"0&\xb2u\x8ef\xcf\x11", "Windows Media (wma)"),
            (0, b"\x1aE\xdf\xa3", "Matroska or WebM"), (0, b"#!AMR", "AMR"), (0, b"MThd", "MIDI, which holds notes and no sound"),
            (0, b"ADIF", "AAC (ADIF)"), (0, b"MAC ", "Monkey's Audio"), (0, b"wvpk", "WavPack"), (0, b".RMF", "RealMedia"),
            (0, b"DSD ", "DSD"), (0, b"%PDF", "a PDF"), (0, b"PK\x03\x04", "a zip archive"), (0, b"\x1f\x8b", "a gzip archive"),
            (0, b"version https://git-lfs", "a pointer of Git LFS: the file itself was not fetched (git lfs pull)"),
            (0, b"<!DOCTYPE", "an HTML page"), (0, b"<html", "an HTML page"))


def foreign_format(head: bytes) -> str:
    """The name of a format that libsndfile does not decode, out of the first bytes of a file; "" where it may."""
    for offset, mark, name in _FOREIGN:
        if head[offset:offset + len(mark)].lower() == mark.lower():
            return name
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:  # MPEG's sync word with layer 0
        return "AAC (ADTS)"
    return ""


def truncation(file: BinaryIO) -> str:
    """Why a seekable binary file holds less audio than its container promises; "" where it holds all, or the container does not tell.

    The position of the file is where it was at the end.
    """
    before = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        head = file.read(12)
        if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:] == b"WAVE":
            return _wave(file, size, ">" if head[:4] == b"RIFX" else "<")
        if head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
            return _aiff(file, size)
        if head[:4] == b".snd":
            return _au(file, size)
        return _ogg(file, size) if head[:4] == b"OggS" else ""
    except struct.error:  # it ends inside a header, and the decoder says so
        return ""
    finally:
        file.seek(before)


def _short(promised: int, there: int, bytes_per_second: float) -> str:
    if bytes_per_second <= 0 or promised - there <= max(TOLERANCE * bytes_per_second, 64):  # some writers count the header, too
        return ""
    return f"its header promises {promised / bytes_per_second:.2f} s, {max(there, 0) / bytes_per_second:.2f} s are there"


def _wave(file: BinaryIO, size: int, order: str) -> str:
    rate, long_size = 0, 0
    while len(head := file.read(8)) == 8:
        name, length = head[:4], struct.unpack(f"{order}I", head[4:])[0]
        place = file.tell()
        if name == b"ds64":
            long_size = struct.unpack("<8xQ", file.read(16))[0]
        elif name == b"fmt ":
            rate = struct.unpack(f"{order}8xI", file.read(12))[0]
        elif name == b"data":
            promised = long_size if length == 0xFFFFFFFF and long_size else length
            streamed = promised == 0 or promised >= 0x7FFFF000 and not long_size  # what writers to a pipe put there
            return "" if streamed else _short(promised, size - place, rate)
        file.seek(place + length + length % 2)
    return ""  # the decoder finds no samples


def _aiff(file: BinaryIO, size: int) -> str:
    bytes_per_second = 0.0
    while len(head := file.read(8)) == 8:
        name, length = head[:4], struct.unpack(">I", head[4:])[0]
        place = file.tell()
        if name == b"COMM":
            channels, _, bits, exponent, mantissa = struct.unpack(">hLhHQ", file.read(18))
            bytes_per_second = channels * bits / 8 * mantissa * 2.0 ** ((exponent & 0x7FFF) - 16383 - 63)
        elif name == b"SSND":
            return _short(length, size - place, bytes_per_second)
        file.seek(place + length + length % 2)
    return ""


def _au(file: BinaryIO, size: int) -> str:
    file.seek(4)
    offset, length, encoding, rate, channels = struct.unpack(">IIIII", file.read(20))
    width = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}.get(encoding, 0)
    return "" if length == 0xFFFFFFFF else _short(length, size - offset, rate * channels * width)


def _ogg(file: BinaryIO, size: int) -> str:
    place, ended, streams = 0, True, 0
    while place < size:
        file.seek(place)
        head = file.read(27)
        if head[:4] != b"OggS":
            return "" if ended else f"the Ogg stream breaks off at byte {place}"
        if len(head) < 27:
            break
        lacing = file.read(head[26])
        following = place + 27 + head[26] + sum(lacing)
        if len(lacing) < head[26] or following > size:
            ended = False
            break
        if head[5] & 2:
            streams += ended
            ended = False
        ended = ended or bool(head[5] & 4)
        place = following
    if not ended:
        return "its Ogg stream has no end: the last page is missing"
    return f"it is {streams} Ogg streams one after another, of which only the first would be read" if streams > 1 else ""
