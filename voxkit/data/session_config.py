"""Options of sessions: how many utterances, and what the sessions differ in."""

from __future__ import annotations

from dataclasses import dataclass, field

LINES = ("telephone", "mu_law", "low_rate")  # band of 300-3400 Hz; 8 bits on a logarithmic scale; everything above 2.7 kHz gone


@dataclass
class ConditionConfig:
    """Attributes:
    gain_prob, gain_db: share of sessions with a gain curve over frequency, a random walk in octaves; its standard deviation in dB.
    noise_prob, noise, noise_snr: share with background noise, a folder of audio or lhotse manifest, range in dB.
    rir_prob, rir: share in a room, impulse responses.
    line_prob, lines: share over a line, and which there are.
    warp_prob, warp: share with another vocal tract, factors that all frequencies are multiplied by; the speech is as much shorter.
    """

    gain_prob: float = 0.0
    gain_db: float = 6.0
    noise_prob: float = 0.0
    noise: str = ""
    noise_snr: list[float] = field(default_factory=lambda: [5.0, 20.0])
    rir_prob: float = 0.0
    rir: str = ""
    line_prob: float = 0.0
    lines: list[str] = field(default_factory=lambda: list(LINES))
    warp_prob: float = 0.0
    warp: list[float] = field(default_factory=lambda: [0.88, 1.14])

    def problems(self) -> list[str]:
        shares = ("gain_prob", "noise_prob", "rir_prob", "line_prob", "warp_prob")
        found = [f"{name}: {getattr(self, name)} is not in [0, 1]" for name in shares if not 0 <= getattr(self, name) <= 1]
        for name in ("noise", "rir"):
            if getattr(self, f"{name}_prob") > 0 and not getattr(self, name):
                found.append(f"{name}: {name}_prob is above 0 and no {name} is named; name a folder of audio")
        for name in ("noise_snr", "warp"):
            if len(getattr(self, name)) != 2 or getattr(self, name)[0] > getattr(self, name)[1]:
                found.append(f"{name}: {getattr(self, name)} should be [low, high]")
        if len(self.warp) == 2 and not 0.5 <= self.warp[0] <= self.warp[1] <= 2:
            found.append(f"warp: {self.warp}: factors are between 0.5 and 2")
        unknown = [line for line in self.lines if line not in LINES]
        if unknown or not self.lines:
            found.append(f"lines: {unknown or 'empty'}; there are {', '.join(LINES)}")
        if self.gain_db < 0:
            found.append(f"gain_db: {self.gain_db} is negative")
        return found

    @property
    def any(self) -> bool:
        """Whether sessions are changed at all."""
        return max(self.gain_prob, self.noise_prob, self.rir_prob, self.line_prob, self.warp_prob) > 0


@dataclass
class SessionConfig:
    """Attributes:
    utterances: in a session, in each epoch; the last number stays. [1, 1, 2, 4, 8]: utterances alone first, then longer sessions.
    condition: what the sessions of training differ in.
    seconds: of a session of codes, in each epoch, for generators of audio; the last number stays, and is that of dev. 0: utterances alone.
    dev_utterances: in the sessions of the dev sets; dev_condition: likewise what these differ in.
    """

    utterances: list[int] = field(default_factory=lambda: [1, 1, 2, 4, 8])
    seconds: list[float] = field(default_factory=lambda: [20.0, 20.0, 40.0, 60.0])
    condition: ConditionConfig = field(default_factory=ConditionConfig)
    dev_utterances: int = 8
    dev_condition: ConditionConfig = field(default_factory=ConditionConfig)

    def problems(self) -> list[str]:
        found = [] if self.utterances and min(self.utterances) >= 1 else [f"utterances: {self.utterances}: give numbers of 1 or more"]
        if not self.seconds or min(self.seconds) < 0:
            found.append(f"seconds: {self.seconds}: give numbers from 0 on")
        return found + ([] if self.dev_utterances >= 1 else [f"dev_utterances: {self.dev_utterances} is below 1"])

    def length(self, epoch: int) -> int:
        """Utterances of a session in an epoch."""
        return self.utterances[min(epoch, len(self.utterances) - 1)]
