// One stream of speech to `voxkit serve`, over Boost.Beast.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "voxkit/session.h"

namespace voxkit {

// Audio up, events down. It survives broken connections and replicas that die: it comes back with the audio since the last final, so that
// nothing is lost and nothing comes twice. Every call may come from any thread, and none blocks but read().
//
//     voxkit::Options options;
//     options.phrases = {"heal me"};
//     voxkit::Stream stream(options);
//     stream.send(samples, count);                       // int16 or float in [-1, 1]
//     for (voxkit::Event e; stream.try_read(e);) show(e);
//     stream.end_utterance();                            // push-to-talk: the button was let go
//     stream.finish();                                   // the last event is finished, or error
class Stream {
 public:
  // Connects at once, in a thread of its own. Throws std::invalid_argument for options that no server takes.
  explicit Stream(Options options);
  // Cancels.
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  void send(const std::int16_t* samples, std::size_t count);
  void send(const float* samples, std::size_t count);
  // A final of the audio so far is wanted now; it comes with from_finalize.
  void end_utterance();
  // Other phrases from the next utterance on.
  void configure(const std::vector<std::string>& phrases);
  // The audio is over.
  void finish();
  // Leave now; what is unanswered stays so.
  void cancel();

  // Whether so much audio is unsent that whoever reads a file should wait.
  bool full() const;
  // Whether the stream is over; events may still wait.
  bool over() const;

  bool try_read(Event& event);
  // The next event, waited for; false: there was none for so long.
  bool read(Event& event, std::chrono::milliseconds timeout);

 private:
  void run();
  void connect();
  void wake();
  void collect();  // with the lock: the session's events become the caller's

  template <class Socket>
  friend class Connection;

  mutable std::mutex mutex_;  // around everything below
  std::condition_variable changed_;
  Session session_;
  std::deque<Event> events_;
  std::function<void()> wake_;  // of the connection that there is now
  bool cancelled_ = false;
  std::thread thread_;
};

}  // namespace voxkit
