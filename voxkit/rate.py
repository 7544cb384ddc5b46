"""The sampling rate of all audio inside voxkit, and those of live audio; what comes in at another is resampled where it is read."""

RATE = 16_000  # Hz
LIVE_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # that a service takes from its clients (docs/serving.md)
