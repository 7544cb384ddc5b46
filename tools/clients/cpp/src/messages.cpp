#include "voxkit/messages.h"

#include <nlohmann/json.hpp>

namespace voxkit {
namespace {

using nlohmann::json;

Event result(const json& raw) {
  const json& best = raw.at("channel").at("alternatives").at(0);
  Event event;
  event.kind = Kind::result;
  event.text = best.at("transcript");
  event.confidence = best.at("confidence");
  event.final = raw.at("is_final");
  event.speech_final = raw.at("speech_final");
  event.from_finalize = raw.at("from_finalize");
  event.start = raw.at("start");
  event.duration = raw.at("duration");
  for (const json& word : best.at("words")) event.words.push_back({word.at("word"), word.at("start"), word.at("end"), word.at("confidence")});
  return event;
}

}  // namespace

std::optional<Event> parse(const std::string& message) {
  try {
    const json raw = json::parse(message);
    const std::string type = raw.at("type");
    Event event;
    if (type == "Results") return result(raw);
    if (type == "Begin") {
      event.kind = Kind::connected;
      event.session = raw.at("request_id");
    } else if (type == "SpeechStarted") {
      event.kind = Kind::speech_started;
      event.start = raw.at("timestamp");
    } else if (type == "ConfigureSuccess" || type == "ConfigureFailure") {
      event.kind = Kind::configured;
      if (type == "ConfigureFailure") event.message = raw.value("description", type);
    } else if (type == "Metadata") {
      event.kind = Kind::finished;
      event.duration = raw.at("duration");
    } else if (type == "Error") {
      event.kind = Kind::error;
      event.code = raw.at("code");
      event.name = raw.value("variant", "ERROR");
      event.message = raw.at("message");
      if (raw.contains("retry_after") && raw["retry_after"].is_number()) event.retry_after = raw["retry_after"].get<double>();
    } else {
      return std::nullopt;
    }
    return event;
  } catch (const json::exception& error) {
    throw std::runtime_error(std::string("no message of voxkit serve: ") + error.what());
  }
}

std::string configure_message(const std::vector<std::string>& phrases) {
  return json{{"type", "Configure"}, {"keyterms", phrases}}.dump();
}

}  // namespace voxkit
