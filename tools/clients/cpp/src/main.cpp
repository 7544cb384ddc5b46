// A WAV file to `voxkit serve`; events as lines of JSON. --press asks for a final after each so many seconds, as a button does that is let go.
//
//     voxkit-client URL FILE.wav [--speed S] [--endpointing MS] [--phrase P]... [--boost B] [--token T] [--press SECONDS]
//                   [--cancel-after SECONDS] [--configure PHRASE] [--attempts N] [--first SECONDS]
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <set>

#include <nlohmann/json.hpp>

#include "voxkit/stream.h"

using nlohmann::json;
using std::chrono::duration;
using std::chrono::steady_clock;

namespace {

std::map<std::string, std::string> given;
std::vector<std::string> phrases, paths;
int status = 0;
bool over = false;  // the last event was said

double number(const std::string& name, double usual) { return given.count(name) ? std::stod(given[name]) : usual; }

struct Wav {
  int rate = 0, channels = 0;
  std::vector<std::int16_t> samples;
};

// A WAV file of 16-bit PCM, on a machine that is little-endian as WAV is.
Wav read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  const auto at = [&bytes](std::size_t place, auto value) {
    if (place + sizeof value <= bytes.size()) std::memcpy(&value, bytes.data() + place, sizeof value);
    return value;
  };
  Wav wav;
  for (std::size_t place = 12; place + 8 <= bytes.size();) {
    const std::uint32_t size = at(place + 4, std::uint32_t{0});
    if (bytes.compare(place, 4, "fmt ") == 0 && at(place + 22, std::uint16_t{0}) == 16) {
      wav.channels = at(place + 10, std::uint16_t{0});
      wav.rate = static_cast<int>(at(place + 12, std::uint32_t{0}));
    } else if (bytes.compare(place, 4, "data") == 0 && wav.rate > 0) {
      wav.samples.resize(std::min<std::size_t>(size, bytes.size() - place - 8) / 2);
      std::memcpy(wav.samples.data(), bytes.data() + place + 8, 2 * wav.samples.size());
      return wav;
    }
    place += 8 + size + (size & 1);
  }
  throw std::invalid_argument(path + " is no WAV file of 16-bit PCM");
}

void say(const voxkit::Event& e) {
  const json error = {{"code", e.code}, {"name", e.name}, {"message", e.message}};
  json said;
  switch (e.kind) {
    case voxkit::Kind::connected: said = {{"event", "Connected"}, {"session", e.session}}; break;
    case voxkit::Kind::speech_started: said = {{"event", "SpeechStarted"}, {"timestamp", e.start}}; break;
    case voxkit::Kind::configured: said = {{"event", "Configured"}, {"problem", e.message}}; break;
    case voxkit::Kind::finished: said = {{"event", "Finished"}, {"duration", e.duration}}; break;
    case voxkit::Kind::reconnecting:
      said = {{"event", "Reconnecting"}, {"error", error}, {"wait", e.wait}, {"offset", e.offset}, {"lost", e.lost}};
      break;
    case voxkit::Kind::error:
      said = error;
      said["event"] = "Error";
      status = 1;
      break;
    case voxkit::Kind::result:
      said = {{"event", "Result"}, {"text", e.text}, {"final", e.final}, {"start", e.start}, {"duration", e.duration},
              {"confidence", e.confidence}, {"speech_final", e.speech_final}, {"from_finalize", e.from_finalize}, {"words", json::array()}};
      for (const auto& w : e.words) said["words"].push_back({{"word", w.word}, {"start", w.start}, {"end", w.end}, {"confidence", w.confidence}});
  }
  over = e.kind == voxkit::Kind::finished || e.kind == voxkit::Kind::error;
  std::cout << said.dump() << std::endl;
}

void stream(const Wav& wav, const voxkit::Options& options) {
  voxkit::Stream stream(options);
  voxkit::Event event;
  while (!stream.read(event, std::chrono::seconds(1))) {
  }
  say(event);  // connected, or why not
  const double speed = number("speed", 0), cancel = number("cancel-after", 1e9);
  const std::size_t size = static_cast<std::size_t>(wav.rate / 10 * wav.channels);
  const long press = std::lround(10 * number("press", 0));
  const auto begun = steady_clock::now();
  for (std::size_t i = 1, first = 0; first < wav.samples.size() && !over; ++i, first += size) {
    if (speed > 0) std::this_thread::sleep_until(begun + duration<double>(0.1 * static_cast<double>(i) / speed));
    while (stream.full()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    stream.send(wav.samples.data() + first, std::min(size, wav.samples.size() - first));
    if (press > 0 && i % static_cast<std::size_t>(press) == 0) stream.end_utterance();
    if (given.count("configure") && i == 1) stream.configure({given["configure"]});
    while (stream.try_read(event)) say(event);
    if (static_cast<double>(i) < 10 * cancel) continue;
    stream.cancel();
    while (stream.try_read(event)) say(event);
    std::cout << R"({"event":"Cancelled"})" << std::endl;
    return;
  }
  if (!over) stream.finish();
  while (!over)
    if (stream.read(event, std::chrono::seconds(1))) say(event);
}

}  // namespace

int main(int count, char** arguments) {
  const std::set<std::string> names = {"speed", "endpointing", "phrase", "boost", "token", "press", "cancel-after", "configure", "attempts", "first"};
  try {
    for (int i = 1; i < count; ++i) {
      const std::string argument = arguments[i];
      if (argument.rfind("--", 0) != 0) {
        paths.push_back(argument);
        continue;
      }
      const std::string name = argument.substr(2);
      if (!names.count(name) || ++i == count) throw std::invalid_argument("unknown option, or without a value: " + argument);
      if (name == "phrase") phrases.push_back(arguments[i]);
      else given[name] = arguments[i];
    }
    if (paths.size() != 2) throw std::invalid_argument("give the server's address and a WAV file");
    const Wav wav = read(paths[1]);
    voxkit::Options options;
    options.url = paths[0];
    options.token = given["token"];
    options.sample_rate = wav.rate;
    options.channels = wav.channels;
    options.phrases = phrases;
    options.endpointing = number("endpointing", 500);
    if (given.count("boost")) options.boost = number("boost", 0);
    options.attempts = static_cast<int>(number("attempts", 8));
    options.first = number("first", 0.5);
    stream(wav, options);
  } catch (const std::invalid_argument& error) {
    std::cerr << error.what() << "\n";
    return 2;
  }
  return status;
}
