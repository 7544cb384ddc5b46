"""What the toy corpus and synthetic speech are made of: sentences, voices, sounds. numpy, soundfile and the synthesizers only: workers
start fast."""
