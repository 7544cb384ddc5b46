// The server's messages, read with nlohmann/json.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "voxkit/events.h"

namespace voxkit {

// A message → an event; nothing for one that says nothing to a client. Throws std::runtime_error: it is none of voxkit serve.
std::optional<Event> parse(const std::string& message);

// The Configure message.
std::string configure_message(const std::vector<std::string>& phrases);

}  // namespace voxkit
