import { RATES } from "./voxkit.js";

/** The microphone of a browser: `onaudio` gets Float32Array at `rate` samples per second until `close()`. */
export class Microphone {
  /** Asks the user; throws the browser's DOMException where there is none or it is not allowed. */
  static async open() {
    if (!navigator.mediaDevices) throw new Error("browsers give the microphone only to pages from https:// or localhost");
    const microphone = new Microphone();
    microphone.source = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: true, noiseSuppression: false } });
    microphone.context = new AudioContext();
    if (!RATES.includes(microphone.context.sampleRate)) {
      await microphone.context.close();
      microphone.context = new AudioContext({ sampleRate: 48000 });
    }
    await microphone.context.audioWorklet.addModule(new URL("capture.js", import.meta.url));
    const capture = new AudioWorkletNode(microphone.context, "voxkit-capture", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
    capture.port.onmessage = ({ data }) => microphone.onaudio(data);
    microphone.context.createMediaStreamSource(microphone.source).connect(capture);
    await microphone.context.resume();
    return microphone;
  }

  onaudio() {}

  get rate() {
    return this.context.sampleRate;
  }

  async close() {
    this.onaudio = () => {};
    this.source.getTracks().forEach((track) => track.stop());
    await this.context.close();
  }
}

const FILE_RATE = 16000;

/** Any audio file that the browser decodes → {samples: Float32Array, rate}, one channel. */
export async function decodeFile(file) {
  const decoded = await new OfflineAudioContext(1, 1, FILE_RATE).decodeAudioData(await file.arrayBuffer());
  const samples = new Float32Array(decoded.length);
  for (let channel = 0; channel < decoded.numberOfChannels; channel += 1) {
    decoded.getChannelData(channel).forEach((x, i) => { samples[i] += x / decoded.numberOfChannels; });
  }
  return { samples, rate: FILE_RATE };
}
