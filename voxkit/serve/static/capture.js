/** Runs beside the page: hands the microphone's samples over in pieces of about 40 ms. */
class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.piece = new Float32Array(Math.round(0.04 * sampleRate));
    this.filled = 0;
  }

  process([[samples]]) {
    for (let i = 0; samples && i < samples.length; ) {
      const n = Math.min(samples.length - i, this.piece.length - this.filled);
      this.piece.set(samples.subarray(i, i + n), this.filled);
      this.filled += n;
      i += n;
      if (this.filled === this.piece.length) {
        this.port.postMessage(this.piece);
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("voxkit-capture", Capture);
