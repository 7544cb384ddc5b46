// The protocol of docs/serving.md without a network: what to connect to, what to send, what an end means. A transport calls it.
#pragma once

#include <cstdio>
#include <optional>
#include <random>
#include <utility>

#include "voxkit/backlog.h"
#include "voxkit/events.h"

namespace voxkit {

// Not safe for threads: whoever has several puts a lock around it. Times are seconds of a clock that only goes forward.
//
//     connect to address() → opened(now); every message → heard(event, now); whenever something may have changed → next(now) until it is
//     empty; the end, also of an attempt → closed(code, reason, now). Then over(), or connect again at retry_at().
class Session {
 public:
  struct Item {
    bool binary = false;
    std::string data;
  };

  // Throws std::invalid_argument for options that no server takes.
  explicit Session(Options options) : options_(check(std::move(options))), backlog_(options_.sample_rate, options_.channels, options_.keep) {}

  const Options& options() const { return options_; }
  bool over() const { return over_; }
  bool full() const { return !over_ && backlog_.ahead() > options_.ahead; }
  double retry_at() const { return retry_at_; }

  // More audio, interleaved; floats in [-1, 1], what is beyond is cut off.
  void append(const std::int16_t* samples, std::size_t count) {
    if (backlog_.closing()) throw std::logic_error("the stream was finished; open another");
    if (count % static_cast<std::size_t>(options_.channels) != 0) throw std::invalid_argument("half a frame of samples");
    if (!over_) backlog_.append(samples, count);
  }
  void append(const float* samples, std::size_t count) {
    std::vector<std::int16_t> converted(count);
    for (std::size_t i = 0; i < count; ++i) {
      const float x = samples[i] * 32768.0f;
      converted[i] = x >= 32767.0f ? INT16_MAX : x > -32768.0f ? static_cast<std::int16_t>(std::lround(x)) : x <= -32768.0f ? INT16_MIN : 0;
    }
    append(converted.data(), count);
  }

  void end_utterance() { backlog_.mark(); }
  void finish() { backlog_.close(); }

  // `message`: the Configure message with these phrases, as JSON.
  void configure(std::vector<std::string> phrases, std::string message) {
    changes_.push_back({std::move(phrases), std::move(message)});
  }

  // Leave: nothing is said any more.
  void cancel() {
    over_ = true;
    connected_ = false;
  }

  // Where to connect now.
  std::string address() const {
    std::string url = options_.url.substr(0, options_.url.find('?')), query;
    if (url.rfind("http", 0) == 0) url = "ws" + url.substr(4);
    while (url.back() == '/') url.pop_back();
    const std::string path = "/v1/listen";
    if (url.size() < path.size() || url.compare(url.size() - path.size(), path.size(), path) != 0) url += path;
    const auto add = [&query](const char* name, const std::string& value) {
      query += (query.empty() ? "?" : "&") + std::string(name) + "=" + escaped(value);
    };
    if (const auto mark = options_.url.find('?'); mark != std::string::npos) query = options_.url.substr(mark);
    add("encoding", "linear16");
    add("sample_rate", std::to_string(options_.sample_rate));
    add("channels", std::to_string(options_.channels));
    add("interim_results", options_.interim_results ? "true" : "false");
    add("endpointing", options_.endpointing > 0 ? number("%g", options_.endpointing) : "false");
    add("offset", number("%.6f", backlog_.offset()));
    if (options_.boost) add("keyterm_boost", number("%g", *options_.boost));
    for (const auto& phrase : options_.phrases) add("keyterm", phrase);
    return url + query;
  }

  // A connection, or an attempt at one, begins.
  void opened(double now) {
    opened_at_ = now;
    progress_ = false;
    refused_.reset();
    finished_.reset();
  }

  // A message of the server; what is to be told comes from take().
  void heard(Event event, double now) {
    if (event.kind == Kind::error) {
      refused_ = std::move(event);
      return;
    }
    if (event.kind == Kind::finished) {
      finished_ = std::move(event);
      return;
    }
    if (event.kind == Kind::connected && !connected_) {
      begun_ = connected_ = true;
      last_sent_ = now;
      backlog_.rewind();
      asked_ = 0;
    } else if (event.kind == Kind::result && event.final) {
      progress_ = true;
      backlog_.commit(event.start + event.duration, event.from_finalize);
    } else if (event.kind == Kind::configured && asked_ > 0) {
      --asked_;
      if (event.message.empty()) options_.phrases = std::move(changes_.front().phrases);
      changes_.pop_front();
    }
    told_.push_back(std::move(event));
  }

  // What to send next, if anything: audio, a command, or KeepAlive when it is time.
  std::optional<Item> next(double now) {
    if (!connected_) return std::nullopt;
    Item item;
    if (asked_ < changes_.size()) {
      item.data = changes_[asked_++].message;
    } else {
      switch (backlog_.next(item.data)) {
        case Backlog::Item::audio: item.binary = true; break;
        case Backlog::Item::finalize: item.data = R"({"type": "Finalize"})"; break;
        case Backlog::Item::close: item.data = R"({"type": "CloseStream"})"; break;
        case Backlog::Item::nothing:
          if (now - last_sent_ < options_.keep_alive) return std::nullopt;
          item.data = R"({"type": "KeepAlive"})";
      }
    }
    last_sent_ = now;
    return item;
  }

  // The connection is over, or there was none (code 1006). Afterwards over(), or retry_at() says when to come back.
  void closed(int code, const std::string& reason, double now) {
    connected_ = false;
    if (over_) return;
    if (finished_ && code == 1000 && backlog_.closing()) {
      over_ = true;
      told_.push_back(*finished_);
      return;
    }
    Event error;
    if (refused_) {
      error = *refused_;
    } else {
      error.kind = Kind::error;
      error.code = code == 1000 ? 1001 : code;  // good-bye to a stream that is not over: another replica may be there
      error.name = begun_ ? "CLOSED" : "UNREACHABLE";
      const std::string address_now = address(), where = address_now.substr(0, address_now.find('?'));
      error.message = (begun_ ? "the connection was closed by the other side" : where + " cannot be reached") +
                      (reason.empty() ? "" : " (" + reason + ")");
    }
    fail(std::move(error), now);
  }

  // What is to be told, in order.
  std::deque<Event> take() { return std::exchange(told_, {}); }

 private:
  struct Change {
    std::vector<std::string> phrases;
    std::string message;
  };

  static Options check(Options options) {
    const int rates[] = {8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000};
    if (std::find(std::begin(rates), std::end(rates), options.sample_rate) == std::end(rates))
      throw std::invalid_argument("sample_rate " + std::to_string(options.sample_rate) + ": no rate that the server takes");
    if (options.channels != 1 && options.channels != 2) throw std::invalid_argument("channels: 1 or 2");
    for (const char* scheme : {"ws://", "wss://", "http://", "https://"})
      if (options.url.rfind(scheme, 0) == 0 && options.url.size() > std::string(scheme).size()) return options;
    throw std::invalid_argument("url " + options.url + " is none of a server; give e.g. ws://127.0.0.1:8000");
  }

  // docs/serving.md: how often in a row, without a new final, a client comes back after a close code; -1: never.
  int retries(int code) const {
    switch (code) {
      case 1011: return 1;
      case 4413: return 0;
      case 1001: case 1006: case 1012: case 1013: case 4408: case 4429: case 4503: return options_.attempts;
      default: return -1;
    }
  }

  void fail(Event error, double now) {
    const int limit = retries(error.code);
    const bool lasted = limit == options_.attempts && now - opened_at_ > options_.longest;
    failures_ = progress_ || lasted ? 0 : failures_ + 1;
    if (failures_ > limit || (error.code == 1006 && !begun_)) {
      over_ = true;
      told_.push_back(std::move(error));
      return;
    }
    const double jitter = std::uniform_real_distribution<double>(0, 1)(random_);
    double wait = std::min(options_.longest, options_.first * std::pow(2.0, std::max(0, failures_ - 1))) * (0.5 + 0.5 * jitter);
    const bool good_bye = error.code == 1001 || error.code == 1012 || error.code == 4408 || error.code == 4413 || error.code == 4503;
    if (failures_ <= 1 && good_bye) wait = 0;
    if (error.retry_after) wait = *error.retry_after * (1 + 0.25 * jitter);
    error.kind = Kind::reconnecting;
    error.wait = wait;
    error.offset = backlog_.offset();
    error.lost = backlog_.lost() - std::exchange(lost_, backlog_.lost());
    retry_at_ = now + wait;
    told_.push_back(std::move(error));
  }

  static std::string number(const char* format, double value) {
    char text[64];
    std::snprintf(text, sizeof text, format, value);
    std::replace(text, text + sizeof text, ',', '.');  // of a locale
    return text;
  }

  static std::string escaped(const std::string& text) {
    std::string out;
    for (const unsigned char c : text) {
      const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' || c == '~';
      if (plain) {
        out.push_back(static_cast<char>(c));
      } else {
        out.push_back('%');
        out.push_back("0123456789ABCDEF"[c >> 4]);
        out.push_back("0123456789ABCDEF"[c & 15]);
      }
    }
    return out;
  }

  Options options_;
  Backlog backlog_;
  std::deque<Change> changes_;  // that the server has not answered
  std::size_t asked_ = 0;       // so many of them were sent on this connection
  std::deque<Event> told_;
  std::optional<Event> refused_, finished_;
  std::mt19937 random_{std::random_device{}()};
  bool begun_ = false, connected_ = false, over_ = false, progress_ = false;
  int failures_ = 0;
  double opened_at_ = 0, last_sent_ = 0, retry_at_ = 0, lost_ = 0;
};

}  // namespace voxkit
