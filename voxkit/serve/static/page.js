import { Microphone, decodeFile } from "./microphone.js";
import { Stream } from "./voxkit.js";

const element = Object.fromEntries([...document.querySelectorAll("[id]")].map((found) => [found.id, found]));
let stream = null; // the one that is going on
let microphone = null;

function say(text, bad = false) {
  element.status.textContent = text;
  element.status.classList.toggle("bad", bad);
}

/** Confidence in [0, 1] → a step of doubt from 0 to 4. */
const shade = (confidence) => Math.max(0, Math.min(4, Math.floor((1 - confidence) * 5)));

function showFinal({ text, words, confidence, start, duration }) {
  element.partial.textContent = "";
  if (!text) return;
  const line = document.createElement("p");
  line.className = "utterance";
  for (const { word, start: from, end, confidence: sure } of words.length ? words : [{ word: text, start, end: start + duration, confidence }]) {
    const span = document.createElement("span");
    const time = document.createElement("small");
    span.className = "word";
    span.dataset.shade = shade(sure);
    span.title = `${from.toFixed(2)} to ${end.toFixed(2)} s, confidence ${sure.toFixed(2)}`;
    span.textContent = word;
    time.textContent = from.toFixed(2);
    span.append(time);
    line.append(span);
  }
  element.transcript.append(line);
  line.scrollIntoView({ block: "nearest" });
}

function hear(event) {
  if (event.event === "Result" && event.final) showFinal(event);
  else if (event.event === "Result") element.partial.textContent = event.text;
  else if (event.event === "Connected") say(`connected to ${event.raw.model}`);
  else if (event.event === "Reconnecting") say(`${event.error.message}; again in ${event.wait.toFixed(1)} s`, true);
  else if (event.event === "Configured" && event.problem) say(event.problem, true);
  else if (event.event === "Finished") say("done");
  else if (event.event === "Error") say(`${event.message} (${event.name}, ${event.code})`, true);
}

const phrases = () => element.phrases.value.split("\n").map((line) => line.trim()).filter(Boolean);

/** A stream with the page's options; the last words of the one before are waited for by nobody. */
async function open(sampleRate, endpointing) {
  const own = new Stream({ url: new URL(".", location.href).href.replace(/\/$/, ""), token: element.token.value.trim(), sampleRate, endpointing,
    phrases: phrases() }, (event) => own === stream && hear(event));
  stream = own;
  own.done.catch(() => {}).then(() => own === stream && release());
  say("connecting");
  await own.ready;
  return own;
}

function release() {
  microphone?.close();
  microphone = stream = null;
  for (const name of ["microphone", "file"]) element[name].disabled = false;
  for (const name of ["stop", "talk"]) element[name].disabled = true;
  for (const name of ["microphone", "talk"]) element[name].classList.remove("on");
}

function take() {
  for (const name of ["microphone", "file"]) element[name].disabled = true;
  element.stop.disabled = false;
}

element.microphone.onclick = async () => {
  take();
  try {
    microphone = await Microphone.open();
    const push = element.push.checked;
    const own = await open(microphone.rate, push ? 0 : Number(element.endpointing.value));
    element.microphone.classList.add("on");
    element.talk.disabled = !push;
    microphone.onaudio = (samples) => {
      if (own === stream && !own.over && (!push || element.talk.classList.contains("on"))) own.send(samples);
    };
  } catch (error) {
    if (stream === null || !stream.over) say(error.message, true); // a stream said itself why it ended
    release();
  }
};

element.talk.onpointerdown = (event) => {
  element.talk.setPointerCapture(event.pointerId);
  element.talk.classList.add("on");
};
element.talk.onpointerup = element.talk.onpointercancel = () => {
  if (element.talk.classList.contains("on") && stream && !stream.over) stream.finalize();
  element.talk.classList.remove("on");
};

element.file.onchange = async () => {
  const [file] = element.file.files;
  if (!file) return;
  take();
  try {
    const { samples, rate } = await decodeFile(file);
    const own = await open(rate, Number(element.endpointing.value));
    const size = rate / 10;
    for (let first = 0; first < samples.length && own === stream; first += size) {
      await own.send(samples.subarray(first, first + size));
      if (!element.fast.checked) await new Promise((resolve) => setTimeout(resolve, 100));
    }
    if (own === stream) await own.finish();
  } catch (error) {
    if (stream === null || !stream.over) say(`${file.name}: ${error.message}`, true);
    release();
  }
  element.file.value = "";
};

element.stop.onclick = () => {
  element.stop.disabled = true;
  microphone?.close();
  microphone = null;
  if (stream?.begun && !stream.backlog.closing) stream.finish().catch(() => {}); // the last words still come
  else stream?.cancel();
};

element.clear.onclick = () => {
  element.transcript.replaceChildren();
  element.partial.textContent = "";
};

element.phrases.onchange = () => {
  if (stream && !stream.over && !stream.backlog.closing) stream.configure({ phrases: phrases() });
};
