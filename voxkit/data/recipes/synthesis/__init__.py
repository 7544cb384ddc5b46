"""What the toy corpus is made of: sentences, voices, sounds. numpy, soundfile and espeak-ng only: workers start fast."""
