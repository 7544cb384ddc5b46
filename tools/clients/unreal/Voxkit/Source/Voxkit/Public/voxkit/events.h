// What a client asks for and what it is told: standard C++17, no dependencies.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace voxkit {

enum class Kind {
  connected,       // a server took the stream: session
  speech_started,  // somebody began to speak: start
  result,          // text, of what was heard of an utterance, or final
  configured,      // what configure() asked for holds, or message says why nothing was changed
  reconnecting,    // the connection broke (code, name, message) and is made again in `wait` seconds; results that are not final are void
  finished,        // everything is answered; the stream is over
  error,           // code, name, message: the stream is over, and not because its audio is
};

// Seconds from the beginning of the session; confidence in [0, 1].
struct Word {
  std::string word;
  double start = 0, end = 0, confidence = 0;
};

// Which fields are set depends on `kind`.
struct Event {
  Kind kind = Kind::result;
  std::string text;  // UTF-8, of the utterance since `start`
  bool final = false;  // the text stays; else the next result replaces it
  bool speech_final = false, from_finalize = false;  // silence ended the utterance; end_utterance() did
  double start = 0, duration = 0, confidence = 0;
  std::vector<Word> words;  // of a final result
  int code = 0;  // the close code (docs/serving.md), 1006 where the server cannot be reached
  std::string name, message;
  std::optional<double> retry_after;  // of the server, for itself
  double wait = 0, offset = 0, lost = 0;  // of reconnecting: audio from `offset` on is sent again, `lost` seconds could not be kept
  std::string session;
};

struct Options {
  std::string url = "ws://127.0.0.1:8000";  // or wss, http, https; /v1/listen comes behind its path
  std::string token;                        // sent as Authorization: Bearer
  int sample_rate = 16000;                  // 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100 or 48000
  int channels = 1;                         // 1 or 2, interleaved
  bool interim_results = true;
  double endpointing = 500;  // milliseconds of silence that end an utterance; 0: only end_utterance() and finish() do
  std::vector<std::string> phrases;
  std::optional<double> boost;  // nats per token; else as the server does
  double keep = 600;            // seconds of audio at most that are kept for a reconnection
  double ahead = 5;             // seconds of unsent audio from which full() is true
  double keep_alive = 4;        // seconds without audio after which the server is told that the client is there
  int attempts = 8;             // failures in a row before the client gives up
  double first = 0.5, longest = 10;  // seconds to wait after a failure, doubled each time, and the most that grows to
  double connect = 10;               // seconds that a connection may take to be made
};

}  // namespace voxkit
