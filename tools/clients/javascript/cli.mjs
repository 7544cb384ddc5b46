// A WAV file to `voxkit serve`, with node >= 22, or node 18 to 21 and `npm install ws` (20 and 21 also: node --experimental-websocket).
//
//     node cli.mjs URL FILE.wav [--speed S] [--endpointing MS] [--phrase P]... [--boost B] [--token T] [--press SECONDS]
//                               [--cancel-after SECONDS] [--configure PHRASE] [--attempts N] [--first SECONDS]
//
// Events are printed as lines of JSON. --press asks for a final after each so many seconds, as a button does that is let go.

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";

import { Stream } from "../../../voxkit/serve/static/voxkit.js";

const text = { type: "string" };
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { speed: text, endpointing: text, phrase: { type: "string", multiple: true }, boost: text, token: text, press: text,
    "cancel-after": text, configure: text, attempts: text, first: text },
});
const number = (name, usual) => (values[name] === undefined ? usual : Number(values[name]));
const say = ({ raw, ...event }) => console.log(JSON.stringify(event));
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

/** The samples of a 16-bit PCM WAV file. */
function readWav(path) {
  const file = readFileSync(path);
  let place = 12;
  let format = null;
  while (place + 8 <= file.length) {
    const [name, size] = [file.toString("latin1", place, place + 4), file.readUInt32LE(place + 4)];
    if (name === "fmt ") {
      format = { channels: file.readUInt16LE(place + 10), rate: file.readUInt32LE(place + 12), bits: file.readUInt16LE(place + 22) };
    } else if (name === "data" && format?.bits === 16) {
      const length = Math.min(size, file.length - place - 8) & ~1;
      return { ...format, samples: new Int16Array(file.buffer.slice(file.byteOffset + place + 8, file.byteOffset + place + 8 + length)) };
    }
    place += 8 + size + (size & 1);
  }
  throw new Error(`${path} is no WAV file of 16-bit PCM`);
}

async function main() {
  const [url, path] = positionals;
  const { channels, rate, samples } = readWav(path);
  const WebSocket = globalThis.WebSocket ?? (await import("ws").catch(() => ({}))).WebSocket;
  const stream = new Stream({ url, token: values.token ?? "", sampleRate: rate, channels, endpointing: number("endpointing", 500),
    phrases: values.phrase ?? [], boost: number("boost", null), attempts: number("attempts", 8), first: number("first", 0.5), WebSocket }, say);
  await stream.ready;
  const size = Math.round(rate / 10) * channels;
  const begun = Date.now();
  for (let i = 1; (i - 1) * size < samples.length; i += 1) {
    if (values.speed > 0) await sleep(Math.max(0, (i * 0.1) / values.speed - (Date.now() - begun) / 1000));
    await stream.send(samples.subarray((i - 1) * size, i * size));
    if (values.press && i % Math.round(10 * values.press) === 0) stream.finalize();
    if (values.configure !== undefined && i === 1) stream.configure({ phrases: [values.configure] });
    if (values["cancel-after"] && i >= 10 * values["cancel-after"]) {
      stream.cancel();
      say({ event: "Cancelled" });
      return;
    }
  }
  await stream.finish();
}

main().catch((error) => {
  if (error.code === undefined || typeof error.code === "string") console.error(error); // others were said as an event
  process.exitCode = 1;
});
