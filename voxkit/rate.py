"""The sampling rate of all audio inside voxkit; what comes in at another is resampled where it is read."""

RATE = 16_000  # Hz
