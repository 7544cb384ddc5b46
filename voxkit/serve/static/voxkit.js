/**
 * A client of `voxkit serve` (docs/serving.md) for browsers and node >= 18, in one file without dependencies.
 *
 *     import { Stream } from "./voxkit.js";
 *
 *     const stream = new Stream({ url: "ws://127.0.0.1:8000", sampleRate: 48000, phrases: ["heal me"] }, (event) => {
 *       if (event.event === "Result") show(event.text, event.final, event.words);
 *     });
 *     microphone.onaudio = (samples) => stream.send(samples);   // Float32Array or Int16Array
 *     await stream.finish();
 *
 * A broken connection is made again, perhaps to another replica, with all audio since the last final: nothing is lost, nothing comes twice.
 *
 * Events are objects with `event`:
 *     Connected     {session, raw}
 *     SpeechStarted {timestamp}
 *     Result        {text, final, start, duration, words: [{word, start, end, confidence}], confidence, speech_final, from_finalize}
 *     Configured    {problem}                                  "" where the change was made
 *     Reconnecting  {error: {code, name, message}, wait, offset, lost}   interim results so far are void
 *     Finished      {duration}
 *     Error         {code, name, message}                      the stream is over
 */

export const RATES = [8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000];

/** Close codes after which a client comes back, and how often in a row without a new final (null: as the options say). */
const RETRIED = new Map([[1001, null], [1006, null], [1011, 1], [1012, null], [1013, null], [4408, null], [4413, 0], [4429, null],
  [4503, null]]);
const AT_ONCE = new Set([1001, 1012, 4408, 4413, 4503]);
const BUFFERED = 64 * 1024; // bytes that may wait in the socket

const DEFAULTS = {
  url: "ws://127.0.0.1:8000", // or wss, http, https; /v1/listen comes behind its path
  token: "", // sent as a subprotocol: browsers' WebSocket has no headers
  sampleRate: 16000,
  channels: 1, // interleaved
  interimResults: true,
  endpointing: 500, // milliseconds of silence that end an utterance; 0: only finalize() and finish() do
  phrases: [],
  boost: null, // nats per token; null: as the server does
  keep: 600, // seconds of audio at most that are kept for a reconnection
  ahead: 5, // seconds of audio that may be unsent before the promise of send() waits
  keepAlive: 4, // seconds without audio after which the server is told that the client is there
  attempts: 8, // failures in a row before the client gives up
  first: 0.5, // seconds to wait after a failure, doubled each time
  longest: 10, // and the most that grows to
  connect: 10, // seconds that a connection may take to be made
  WebSocket: null, // a class like the browser's; node 18 to 21 have none of their own: `ws` of npm
};

/** The stream is over, and not because its audio is. `code`: the server's close code, 1006 where it cannot be reached. */
export class VoxkitError extends Error {
  constructor(code, name, message, retryAfter = null) {
    super(message);
    this.code = code;
    this.name = name;
    this.retryAfter = retryAfter;
  }
}

export class Stream {
  /** Connects at once. `onEvent` gets every event; the promise `ready` is kept with the first `Begin`, `done` with the last event. */
  constructor(options = {}, onEvent = () => {}) {
    const unknown = Object.keys(options).filter((name) => !(name in DEFAULTS));
    if (unknown.length) throw new RangeError(`unknown options: ${unknown.join(", ")}`);
    this.options = { ...DEFAULTS, ...options };
    if (!RATES.includes(this.options.sampleRate)) throw new RangeError(`sampleRate ${this.options.sampleRate}: one of ${RATES.join(", ")}`);
    this.WebSocket = this.options.WebSocket ?? globalThis.WebSocket;
    if (!this.WebSocket) throw new TypeError("this JavaScript has no WebSocket: give one as the option WebSocket (npm install ws)");
    this.onEvent = onEvent;
    this.backlog = new Backlog(this.options.sampleRate, this.options.channels, this.options.keep);
    this.over = false;
    this.begun = false;
    this._changes = []; // of the options, which the server has not answered: {changes, message}
    this._asked = 0; // so many of them were sent on this connection
    this._waiting = []; // resolvers of send()
    this._failures = 0;
    this._lost = 0;
    this.ready = new Promise((resolve, reject) => Object.assign(this, { _isReady: resolve, _notReady: reject }));
    this.done = new Promise((resolve, reject) => Object.assign(this, { _isDone: resolve, _notDone: reject }));
    this.ready.catch(() => {}); // whoever awaits none of them hears of it by the event
    this.done.catch(() => {});
    this._connect();
  }

  /** More audio: Int16Array, or Float32Array in [-1, 1]. The promise is kept when not too much is unsent; a file awaits it. */
  send(samples) {
    this._checkOpen();
    this.backlog.append(samples instanceof Float32Array ? toInt16(samples) : samples);
    this._pump();
    return this._unsent() ? new Promise((resolve) => this._waiting.push(resolve)) : Promise.resolve();
  }

  /** A final of the audio so far is wanted now: the button was let go. It comes as a Result with from_finalize. */
  finalize() {
    this._checkOpen();
    this.backlog.finalize();
    this._pump();
  }

  /** Change phrases, endpointing (milliseconds) or interimResults from the next utterance on; Configured says when it is done. */
  configure(changes) {
    this._checkOpen();
    const names = { phrases: "keyterms", endpointing: "endpointing", interimResults: "interim_results" };
    const message = { type: "Configure" };
    for (const [name, value] of Object.entries(changes)) {
      if (!(name in names)) throw new RangeError(`${name} cannot be changed; ${Object.keys(names).join(", ")} can`);
      message[names[name]] = value;
    }
    this._changes.push({ changes: { ...changes }, message: JSON.stringify(message) });
    this._pump();
  }

  /** The audio is over; the promise is kept with Finished when all of it is answered, and broken with a VoxkitError. */
  finish() {
    this._checkOpen();
    this.backlog.closing = true;
    this._pump();
    return this.done;
  }

  /** Leave now; what is unanswered stays so. */
  cancel() {
    if (this.over) return;
    this._end();
    this._isDone(null);
  }

  _checkOpen() {
    if (this.over || this.backlog.closing) throw new VoxkitError(1000, "OVER", "the stream is over; open another");
  }

  _unsent() {
    return !this.over && this.backlog.ahead > this.options.ahead;
  }

  _end() {
    this.over = true;
    this._hangUp();
    for (const resolve of this._waiting.splice(0)) resolve();
    this._notReady(new VoxkitError(1000, "OVER", "the stream ended before it began"));
  }

  /** Nothing that this socket still says is listened to. */
  _hangUp() {
    const socket = this.socket;
    clearTimeout(this._timer);
    clearTimeout(this._later);
    this.socket = null;
    this._open = false;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.onerror = () => {};
    socket.close();
  }

  _connect() {
    const { token, connect } = this.options;
    this._refused = this._finished = null;
    this._progress = this._open = false;
    this._opened = Date.now();
    const socket = token ? new this.WebSocket(this._address(), ["token", token]) : new this.WebSocket(this._address());
    this.socket = socket;
    socket.onmessage = ({ data }) => this._hear(String(data));
    socket.onclose = ({ code, reason }) => this._closed(code, reason);
    // A close with 1006 follows in browsers; node 20 says nothing further of a connection that could not be made.
    socket.onerror = () => setTimeout(() => this.socket === socket && this._closed(1006, ""), 0);
    this._timer = setTimeout(() => {
      this._hangUp();
      this._closed(1006, `no answer for ${connect} s`);
    }, connect * 1000);
  }

  _address() {
    const o = this.options;
    const url = new URL(o.url);
    url.protocol = { "http:": "ws:", "https:": "wss:" }[url.protocol] ?? url.protocol;
    if (!url.pathname.endsWith("/v1/listen")) url.pathname = `${url.pathname.replace(/\/+$/, "")}/v1/listen`;
    const query = { encoding: "linear16", sample_rate: o.sampleRate, channels: o.channels, interim_results: o.interimResults,
      endpointing: o.endpointing || false, offset: this.backlog.offset.toFixed(6) };
    if (o.boost !== null) query.keyterm_boost = o.boost;
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    for (const phrase of o.phrases) url.searchParams.append("keyterm", phrase);
    return url.href;
  }

  _hear(data) {
    let event;
    try {
      event = parse(data);
    } catch (error) {
      this._hangUp();
      this._fail(new VoxkitError(1002, "PROTOCOL", `${data.slice(0, 200)} is no message of voxkit serve: ${error.message}`));
      return;
    }
    if (event instanceof VoxkitError) this._refused = event;
    else if (event?.event === "Finished") this._finished = event;
    else if (event) {
      if (event.event === "Connected") {
        clearTimeout(this._timer);
        this.begun = this._open = true;
        this._asked = 0;
        this.backlog.rewind();
        this._isReady();
        this._pump();
      } else if (event.event === "Result" && event.final) {
        this._progress = true;
        this.backlog.commit(event.start + event.duration, event.from_finalize);
      } else if (event.event === "Configured" && this._asked) {
        this._asked -= 1;
        const { changes } = this._changes.shift();
        if (!event.problem) Object.assign(this.options, changes);
      }
      this.onEvent(event);
    }
  }

  _closed(code, reason) {
    this._hangUp();
    if (this._finished && code === 1000 && this.backlog.closing) {
      const finished = this._finished;
      this._end();
      this.onEvent(finished);
      this._isDone(finished);
      return;
    }
    const where = this._address().split("?")[0];
    const why = this.begun ? `the connection was closed by the other side${reason ? `: ${reason}` : ""}` :
      `${where} cannot be reached${reason ? ` (${reason})` : ""}`;
    this._fail(this._refused ?? new VoxkitError(code === 1000 ? 1001 : code || 1006, this.begun ? "CLOSED" : "UNREACHABLE", why));
  }

  /** The connection is over before its time: come back, or give up. */
  _fail(error) {
    const { attempts, first, longest } = this.options;
    const limit = RETRIED.get(error.code);
    const lasted = limit === null && Date.now() - this._opened > longest * 1000;
    this._failures = this._progress || lasted ? 0 : this._failures + 1;
    if (limit === undefined || (error.code === 1006 && !this.begun) || this._failures > (limit ?? attempts)) {
      this._notReady(error);
      this._end();
      this.onEvent({ event: "Error", code: error.code, name: error.name, message: error.message });
      this._notDone(error);
      return;
    }
    let wait = Math.min(longest, first * 2 ** Math.max(0, this._failures - 1)) * (0.5 + 0.5 * Math.random());
    if (this._failures <= 1 && AT_ONCE.has(error.code)) wait = 0;
    if (error.retryAfter !== null) wait = error.retryAfter * (1 + 0.25 * Math.random());
    const lost = (this.backlog.lost - this._lost) / this.options.sampleRate;
    this._lost = this.backlog.lost;
    this._later = setTimeout(() => this._connect(), wait * 1000);
    this.onEvent({ event: "Reconnecting", error: { code: error.code, name: error.name, message: error.message }, wait,
      offset: this.backlog.offset, lost });
  }

  /** Send what there is, as far as the socket takes it; then come again, to go on or to say that the client is there. */
  _pump() {
    if (!this._open || this.over) return;
    clearTimeout(this._later);
    while (this.socket.bufferedAmount < BUFFERED) {
      const item = this._asked < this._changes.length ? this._changes[this._asked++].message : this.backlog.next();
      if (item === null) break;
      this.socket.send(typeof item !== "string" || item.startsWith("{") ? item : `{"type": "${item}"}`);
    }
    if (!this._unsent()) for (const resolve of this._waiting.splice(0)) resolve();
    const stuck = this.socket.bufferedAmount >= BUFFERED;
    this._later = setTimeout(() => {
      if (!stuck && this._open) this.socket.send('{"type": "KeepAlive"}');
      this._pump();
    }, stuck ? 20 : this.options.keepAlive * 1000);
  }
}

/**
 * What is kept until the server has answered it with a final: the audio since then, and where in it somebody asked for one. `begin`, `end`
 * and `sent` count frames (samples of all channels) since the beginning of the session.
 */
class Backlog {
  constructor(rate, channels, keep) {
    this.rate = rate;
    this.channels = channels;
    this.keep = Math.round(keep * rate);
    this.least = Math.round(0.02 * rate); // frames of one message; less only before a command
    this.most = Math.round(0.5 * rate);
    this.begin = this.end = this.sent = this.lost = 0;
    this.closing = false;
    this._audio = new Int16Array(2 * rate * channels); // the frame `_first` and those behind it
    this._first = 0;
    this._marks = []; // frames at which a final was asked for and has not come
    this._marksSent = 0;
    this._closeSent = false;
  }

  get offset() {
    return this.begin / this.rate;
  }

  /** Seconds of audio that were not sent yet. */
  get ahead() {
    return (this.end - this.sent) / this.rate;
  }

  append(samples) {
    if (samples.length % this.channels) throw new RangeError(`${samples.length} samples are no whole frames of ${this.channels} channels`);
    const kept = (this.end - this._first) * this.channels;
    if (kept + samples.length > this._audio.length) { // room for twice what is needed, without what was answered
      const needed = (this.end - this.begin) * this.channels + samples.length;
      const audio = new Int16Array(Math.max(2 * needed, 2 * this.rate * this.channels));
      audio.set(this._audio.subarray((this.begin - this._first) * this.channels, kept));
      this._audio = audio;
      this._first = this.begin;
    }
    this._audio.set(samples, (this.end - this._first) * this.channels);
    this.end += samples.length / this.channels;
    const until = Math.min(this.end - this.keep, this.sent); // what was not sent is never given up
    if (until > this.begin) {
      this.lost += until - this.begin;
      this._forget(until);
    }
  }

  finalize() {
    this._marks.push(this.end);
  }

  /** What to send next: audio, the name of a command, or null for nothing yet. */
  next() {
    const mark = this._marks[this._marksSent];
    const waiting = (mark ?? this.end) - this.sent;
    if (waiting >= this.least || (waiting > 0 && (mark !== undefined || this.closing))) {
      const first = this.sent;
      this.sent += Math.min(waiting, this.most);
      return this._audio.slice((first - this._first) * this.channels, (this.sent - this._first) * this.channels);
    }
    if (mark !== undefined) {
      this._marksSent += 1;
      return "Finalize";
    }
    if (this.closing && !this._closeSent) {
      this._closeSent = true;
      return "CloseStream";
    }
    return null;
  }

  /** Another connection: everything that is kept is to be sent to it. */
  rewind() {
    this.sent = this.begin;
    this._marksSent = 0;
    this._closeSent = false;
  }

  /** A final came for everything up to `seconds`; `fromFinalize`: it is the first that was asked for, and answers what was before. */
  commit(seconds, fromFinalize) {
    let until = Math.round(seconds * this.rate);
    if (fromFinalize && this._marksSent) {
      until = Math.max(until, this._marks.shift());
      this._marksSent -= 1;
    }
    this._forget(Math.min(this.sent, until));
  }

  _forget(until) {
    this.begin = Math.max(this.begin, until);
    this.sent = Math.max(this.sent, this.begin);
  }
}

/** A message of the server → an event, a VoxkitError, or null for one that says nothing to a client. */
function parse(data) {
  const raw = JSON.parse(data);
  switch (raw.type) {
    case "Results": {
      const best = raw.channel.alternatives[0];
      return { event: "Result", text: best.transcript, final: raw.is_final, start: raw.start, duration: raw.duration,
        words: best.words.map(({ word, start, end, confidence }) => ({ word, start, end, confidence })), confidence: best.confidence,
        speech_final: raw.speech_final, from_finalize: raw.from_finalize };
    }
    case "Begin":
      return { event: "Connected", session: raw.request_id, raw };
    case "SpeechStarted":
      return { event: "SpeechStarted", timestamp: raw.timestamp };
    case "ConfigureSuccess":
      return { event: "Configured", problem: "" };
    case "ConfigureFailure":
      return { event: "Configured", problem: raw.description || "ConfigureFailure" };
    case "Metadata":
      return { event: "Finished", duration: raw.duration };
    case "Error":
      return new VoxkitError(raw.code, raw.variant ?? "ERROR", raw.message, raw.retry_after ?? null);
    default:
      return null;
  }
}

/** Samples in [-1, 1] → 16 bits; what is beyond is cut off, NaN is 0. */
export function toInt16(samples) {
  return Int16Array.from(samples, (x) => Math.max(-32768, Math.min(32767, Math.round(x * 32768))) || 0);
}
