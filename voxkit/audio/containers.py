"""What a file of audio is, by its first bytes, and whether it ends before it should: what the decoder does not tell.

libsndfile takes the part of a cut-off WAV or Ogg file that is there for all of it. The containers know better: the data chunk of WAV, AIFF
and AU says how long it is, the last page of an Ogg stream is marked as the last (RFC 3533), FLAC counts its samples and numbers its frames
(RFC 9639).
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


def incomplete(file: BinaryIO) -> str:
    """Why a seekable binary file holds less, or more, audio than its container promises; "" where it holds all, or the container does not
    tell. The position of the file is left where it was."""
    before = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        head = file.read(12)
        if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:] == b"WAVE":
            return _wave(file, size, ">" if head[:4] == b"RIFX" else "<")
        for mark, look in ((b"riff.\x91\xcf\x11", _wave64), (b"FORM", _aiff), (b".snd", _au), (b"OggS", _ogg), (b"fLaC", _flac)):
            if head.startswith(mark):
                return look(file, size)
        return ""
    except struct.error:  # it ends inside a header, and the decoder says so
        return ""
    finally:
        file.seek(before)


def _compare(promised: int, there: int, bytes_per_second: float) -> str:
    if bytes_per_second <= 0 or abs(promised - there) <= max(TOLERANCE * bytes_per_second, 64):  # some writers count the header, too
        return ""
    seconds = f"its header promises {promised / bytes_per_second:.2f} s, {max(there, 0) / bytes_per_second:.2f} s are there"
    return f"truncated: {seconds}" if promised > there else f"of unclear length: {seconds}"


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
            if streamed or promised < size - place and _chunks_follow(file, place + promised + promised % 2, size, order):
                return ""
            return _compare(promised, size - place, rate)
        file.seek(place + length + length % 2)
    return ""  # the decoder finds no samples


def _chunks_follow(file: BinaryIO, place: int, size: int, order: str) -> bool:
    while place + 8 <= size:
        file.seek(place)
        name, length = struct.unpack(f"{order}4sI", file.read(8))
        if not all(32 <= byte < 127 for byte in name) or place + 8 + length > size + 1:
            return False
        place += 8 + length + length % 2
    return size - place < 64


def _wave64(file: BinaryIO, size: int) -> str:
    rate, place = 0, 40  # behind the two identifiers of 16 bytes and the size
    while place + 24 <= size:
        file.seek(place)
        name, length = struct.unpack("<4s12xQ", file.read(24))
        if name == b"fmt ":
            rate = struct.unpack("<8xI", file.read(12))[0]
        elif name == b"data":
            there = size - place - 24
            return _compare(length - 24, min(there, length - 24), rate)
        place += max(24, -(-length // 8) * 8)
    return ""


def _aiff(file: BinaryIO, size: int) -> str:
    bytes_per_second = 0.0
    while len(head := file.read(8)) == 8:
        name, length = head[:4], struct.unpack(">I", head[4:])[0]
        place = file.tell()
        if name == b"COMM":
            channels, _, bits, exponent, mantissa = struct.unpack(">hLhHQ", file.read(18))
            bytes_per_second = channels * bits / 8 * mantissa * 2.0 ** ((exponent & 0x7FFF) - 16383 - 63)
        elif name == b"SSND":
            return _compare(length, min(size - place, length), bytes_per_second)
        file.seek(place + length + length % 2)
    return ""


def _au(file: BinaryIO, size: int) -> str:
    file.seek(4)
    offset, length, encoding, rate, channels = struct.unpack(">IIIII", file.read(20))
    width = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}.get(encoding, 0)
    return "" if length == 0xFFFFFFFF else _compare(length, min(size - offset, length), rate * channels * width)


def _ogg(file: BinaryIO, size: int) -> str:
    place, ended, streams = 0, True, 0
    while place < size:
        file.seek(place)
        head = file.read(27)
        if head[:4] != b"OggS":
            return "" if ended else f"truncated: its Ogg stream breaks off at byte {place}"
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
        return "truncated: its Ogg stream has no end, the last page is missing"
    return f"{streams} Ogg streams one after another, of which only the first would be read" if streams > 1 else ""


def _flac(file: BinaryIO, size: int) -> str:
    file.seek(4)
    block, total, rate, last = 0, 0, 0, False
    while not last:
        kind, *length = struct.unpack(">BBH", file.read(4))
        last, after = bool(kind & 0x80), file.tell() + (length[0] << 16 | length[1])
        if kind & 0x7F == 0:
            block, bits = struct.unpack(">2xH6xQ", file.read(18))
            total, rate = bits & (1 << 36) - 1, bits >> 44
        file.seek(after)
    start = max(file.tell(), size - (1 << 18))
    file.seek(start)
    tail = file.read()
    place = len(tail)
    while total and rate and (place := tail.rfind(b"\xff", 0, place)) >= 0:
        number = _flac_frame(tail[place:place + 16])
        if number is not None:  # the last frame that begins there
            first = number if tail[place + 1] & 1 else number * block
            lacking = total - first - block
            return f"truncated: its header promises {total / rate:.2f} s, some {first / rate:.2f} s are there" if lacking > 0 else ""
    return ""


def _flac_frame(head: bytes) -> int | None:
    """The number of the frame (or its first sample) whose header these bytes begin with, None where they are none."""
    if len(head) < 7 or head[1] & 0xFC != 0xF8 or head[2] >> 4 == 0 or head[2] & 15 == 15 or head[3] >> 4 > 10 or head[3] & 1:
        return None
    ones = 0
    while ones < 8 and head[4] & 0x80 >> ones:
        ones += 1
    if ones in (1, 8):
        return None
    number, end = head[4] & (0x7F >> ones), 4 + max(ones, 1)
    for byte in head[5:end]:
        number = number << 6 | byte & 0x3F
    end += {6: 1, 7: 2}.get(head[2] >> 4, 0) + {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    checksum = 0
    for byte in head[:end]:
        checksum ^= byte
        for _ in range(8):
            checksum = (checksum << 1 ^ 0x07 if checksum & 0x80 else checksum << 1) & 0xFF
    return number if end < len(head) and head[end] == checksum else None
