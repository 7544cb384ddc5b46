// What is kept until the server has answered it with a final: the audio since then, and where in it somebody asked for one.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <deque>
#include <stdexcept>
#include <string>
#include <vector>

namespace voxkit {

// After a broken connection all of it is sent again: nothing is lost, and since what was answered is gone, nothing is said twice.
// Positions count frames (samples of all channels) since the beginning of the session.
class Backlog {
 public:
  enum class Item { nothing, audio, finalize, close };

  Backlog(int rate, int channels, double keep)
      : rate_(rate), channels_(channels), keep_(std::llround(keep * rate)), least_(rate / 50), most_(rate / 2) {}

  // Seconds from the beginning of the session to the first frame that is kept.
  double offset() const { return static_cast<double>(begin_) / rate_; }
  // Seconds of audio that were not sent yet.
  double ahead() const { return static_cast<double>(end_ - sent_) / rate_; }
  // Seconds that were given up without an answer.
  double lost() const { return static_cast<double>(lost_) / rate_; }
  bool closing() const { return closing_; }

  // More audio: whole frames.
  void append(const std::int16_t* samples, std::size_t count) {
    if (count > 0) {
      audio_.insert(audio_.end(), samples, samples + count);
      end_ += static_cast<std::int64_t>(count) / channels_;
    }
    if (const std::int64_t until = std::min(end_ - keep_, sent_); until > begin_) {  // what was not sent is never given up
      lost_ += until - begin_;
      forget(until);
    }
  }

  // A final is wanted of the audio so far.
  void mark() { marks_.push_back(end_); }
  // The audio is over.
  void close() { closing_ = true; }

  // What to send next; audio is written to `piece` as s16le.
  Item next(std::string& piece) {
    const bool marked = marks_sent_ < marks_.size();
    const std::int64_t waiting = (marked ? marks_[marks_sent_] : end_) - sent_;
    if (waiting >= least_ || (waiting > 0 && (marked || closing_))) {
      const std::int64_t frames = std::min(waiting, most_);
      const std::size_t first = dropped_ + static_cast<std::size_t>((sent_ - begin_) * channels_);
      piece.clear();
      for (std::size_t i = first; i < first + static_cast<std::size_t>(frames * channels_); ++i) {
        const auto sample = static_cast<std::uint16_t>(audio_[i]);
        piece.push_back(static_cast<char>(sample & 0xff));
        piece.push_back(static_cast<char>(sample >> 8));
      }
      sent_ += frames;
      return Item::audio;
    }
    if (marked) {
      ++marks_sent_;
      return Item::finalize;
    }
    if (closing_ && !close_sent_) {
      close_sent_ = true;
      return Item::close;
    }
    return Item::nothing;
  }

  // Another connection: everything that is kept is to be sent to it.
  void rewind() {
    sent_ = begin_;
    marks_sent_ = 0;
    close_sent_ = false;
  }

  // A final came for everything up to `seconds`; `from_finalize`: it is the first that was asked for, and answers what was before.
  void commit(double seconds, bool from_finalize) {
    std::int64_t until = std::llround(seconds * rate_);
    if (from_finalize && marks_sent_ > 0) {
      until = std::max(until, marks_.front());
      marks_.pop_front();
      --marks_sent_;
    }
    forget(std::min(sent_, until));
  }

 private:
  void forget(std::int64_t until) {
    if (until <= begin_) return;
    dropped_ += static_cast<std::size_t>((until - begin_) * channels_);
    begin_ = until;
    sent_ = std::max(sent_, begin_);
    if (dropped_ > audio_.size() / 2) {  // moving what is left costs no more than what is thrown away
      audio_.erase(audio_.begin(), audio_.begin() + static_cast<std::ptrdiff_t>(dropped_));
      dropped_ = 0;
    }
  }

  const int rate_, channels_;
  const std::int64_t keep_, least_, most_;  // least and most of one message; less only before a command
  std::vector<std::int16_t> audio_;         // `dropped_` samples that are done with, then the frame begin_ and those behind it
  std::size_t dropped_ = 0;
  std::int64_t begin_ = 0, end_ = 0, sent_ = 0, lost_ = 0;
  std::deque<std::int64_t> marks_;  // frames at which a final was asked for and has not come
  std::size_t marks_sent_ = 0;
  bool closing_ = false, close_sent_ = false;
};

}  // namespace voxkit
