"""What a client keeps until the server has answered it with a final: the audio since then, and where in it somebody asked for one.

After a broken connection all of it is sent again, to any replica, with the time at which it begins: nothing is lost, and since what was
answered is gone, nothing is said twice.
"""

from __future__ import annotations

FINALIZE, CLOSE = "Finalize", "CloseStream"


class Backlog:
    """Args:
        rate: samples per second.
        frame_bytes: of one sample of all channels.
        keep: seconds to keep at most; older audio that was sent is given up.
        least, most: seconds of audio of one message; less is sent only before a command.

    Attributes (in samples since the beginning of the session):
        begin, end: what is kept lies between them.
        sent: up to here it went through the connection that there is now.
        lost: how many were given up without an answer.
    """

    def __init__(self, rate: int, frame_bytes: int, keep: float, least: float = 0.02, most: float = 0.5) -> None:
        self.rate, self.frame_bytes, self.keep = rate, frame_bytes, int(keep * rate)
        self.least, self.most = max(1, round(least * rate)), max(1, round(most * rate))
        self.begin = self.end = self.sent = self.lost = 0
        self.closing = False
        self._audio = bytearray()  # of begin … end
        self._marks: list[int] = []  # samples at which a final was asked for and has not come
        self._marks_sent = 0
        self._close_sent = False

    @property
    def offset(self) -> float:
        """Seconds from the beginning of the session to the first sample that is kept."""
        return self.begin / self.rate

    @property
    def ahead(self) -> float:
        """Seconds of audio that were not sent yet."""
        return (self.end - self.sent) / self.rate

    @property
    def asked(self) -> int:
        """Finals that were asked for and have not come."""
        return len(self._marks)

    def append(self, audio: bytes) -> None:
        """More audio, of whole samples."""
        assert len(audio) % self.frame_bytes == 0 and not self.closing
        self._audio += audio
        self.end += len(audio) // self.frame_bytes
        if (until := min(self.end - self.keep, self.sent)) > self.begin:  # what was not sent is never given up
            self.lost += until - self.begin
            self._forget(until)

    def finalize(self) -> None:
        """A final is wanted of the audio so far."""
        self._marks.append(self.end)

    def close(self) -> None:
        """The audio is over."""
        self.closing = True

    def next(self) -> bytes | str | None:
        """What to send next: audio, a command, or nothing yet."""
        unsent = self._marks[self._marks_sent:]
        until = unsent[0] if unsent else self.end
        waiting = until - self.sent
        if waiting >= self.least or waiting > 0 and (unsent or self.closing):
            first, length = (self.sent - self.begin) * self.frame_bytes, min(waiting, self.most) * self.frame_bytes
            self.sent += min(waiting, self.most)
            return bytes(self._audio[first:first + length])
        if unsent:
            self._marks_sent += 1
            return FINALIZE
        if self.closing and not self._close_sent:
            self._close_sent = True
            return CLOSE
        return None

    def rewind(self) -> None:
        """Another connection: everything that is kept is to be sent to it."""
        self.sent, self._marks_sent, self._close_sent = self.begin, 0, False

    def commit(self, seconds: float, from_finalize: bool = False) -> None:
        """A final came for everything up to `seconds`; `from_finalize`: it is the first that was asked for, and answers what was before."""
        until = round(seconds * self.rate)
        if from_finalize and self._marks_sent:
            until = max(until, self._marks.pop(0))
            self._marks_sent -= 1
        self._forget(min(self.sent, until))

    def _forget(self, until: int) -> None:
        if until > self.begin:
            del self._audio[:(until - self.begin) * self.frame_bytes]
            self.begin, self.sent = until, max(self.sent, until)
