"""MP3 files whose length nobody wrote down: all frames are counted, and a header with the count is put in front.

A decoder takes the length of an MP3 from its Xing or Info header. Where there is none (what ffmpeg writes into a pipe) it guesses from the
bit rate of the first frame, and where two files were put together it believes the first: libsndfile then stops in the middle.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_RATES = (44100, 48000, 32000)  # of MPEG 1; half of it for 2, a quarter for 2.5
_BITRATES = {  # kbit/s by (is MPEG 1, layer)
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


@dataclass(frozen=True)
class Frame:
    """One header: bytes and samples of its frame, rate, and where the side information of layer 3 ends."""

    size: int
    samples: int
    rate: int
    side: int


@dataclass(frozen=True)
class Stream:
    """What a walk over a file found.

    Attributes:
        start: byte of the first frame of sound, after tags and a header of length.
        frames: of sound; samples: of them, per channel; rate: in Hz.
        promised: frames that a Xing or Info header names, None = there is none.
        first: the first four bytes of sound.
    """

    start: int
    frames: int
    samples: int
    rate: int
    promised: int | None
    first: bytes


def parse_header(data: bytes, place: int) -> Frame | None:
    """The frame header at a place, None where there is none (free bit rates included)."""
    if place + 4 > len(data) or data[place] != 0xFF or data[place + 1] & 0xE0 != 0xE0:
        return None
    version, layer = data[place + 1] >> 3 & 3, 4 - (data[place + 1] >> 1 & 3)
    bitrate, rate = data[place + 2] >> 4, data[place + 2] >> 2 & 3
    if version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return None
    first = version == 3
    hertz = _RATES[rate] >> (0 if first else 1 if version == 2 else 2)
    padding = data[place + 2] >> 1 & 1
    bits = _BITRATES[first, layer][bitrate - 1] * 1000
    if layer == 1:
        return Frame((12 * bits // hertz + padding) * 4, 384, hertz, 0)
    samples = 1152 if first or layer == 2 else 576
    mono = data[place + 3] >> 6 == 3
    return Frame(samples // 8 * bits // hertz + padding, samples, hertz, 4 + ((17 if mono else 32) if first else (9 if mono else 17)))


def walk(data: bytes) -> Stream | None:
    """Count the frames of an MP3; None where the bytes are none, or of a free bit rate. What is no frame (tags, garbage) is skipped."""
    place = _after_id3(data)
    first = _next(data, place)
    if first is None or first > place + 65536:
        return None
    place, header = first, parse_header(data, first)
    assert header is not None
    promised, start, frames, samples, rate = None, first, 0, 0, header.rate
    tag = data[place + header.side:place + header.side + 4]
    if tag in (b"Xing", b"Info"):
        flags, count = struct.unpack(">II", data[place + header.side + 4:place + header.side + 12].ljust(8, b"\0"))
        promised = count if flags & 1 else None
        place += header.size
        start = place
    elif data[place + 36:place + 40] == b"VBRI":
        place += header.size
        start = place
    while True:
        header = parse_header(data, place)
        if header is None or header.rate != rate:
            place = _next(data, place + 1, rate)
            if place is None:
                break
            continue
        if place + header.size > len(data):
            break
        frames, samples, place = frames + 1, samples + header.samples, place + header.size
    return Stream(start, frames, samples, rate, promised, data[start:start + 4]) if frames else None


def with_length(data: bytes, stream: Stream) -> bytes:
    """The frames of sound behind an Info header that counts them: what a decoder reads to the end."""
    head = bytearray(stream.first)
    head[1] |= 1  # no checksum
    head[2] = (head[2] & 0x0C) | 0xC0  # 224 or 112 kbit/s: room for the header at any rate
    frame = parse_header(bytes(head), 0)
    assert frame is not None
    info = bytearray(frame.size)
    info[:4] = head
    sound = data[stream.start:]
    info[frame.side:frame.side + 16] = b"Info" + struct.pack(">III", 3, stream.frames, len(info) + len(sound))
    return bytes(info) + sound


def _after_id3(data: bytes) -> int:
    place = 0
    while data[place:place + 3] == b"ID3" and len(data) >= place + 10:
        size = 0
        for byte in data[place + 6:place + 10]:
            size = size << 7 | byte & 0x7F
        place += 10 + size + (10 if data[place + 5] & 0x10 else 0)
    return place


def _next(data: bytes, place: int, rate: int = 0) -> int | None:
    """The next place at which two frames follow each other, or one the end."""
    while (place := data.find(b"\xff", place)) >= 0:
        header = parse_header(data, place)
        if header is not None and rate in (0, header.rate):
            after = place + header.size
            following = parse_header(data, after)
            if (following is not None and following.rate == header.rate) or after == len(data) or data[after:after + 3] in (b"TAG", b"APE"):
                return place
        place += 1
    return None
