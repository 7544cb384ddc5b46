#include "voxkit/stream.h"

#include "connection.h"

namespace voxkit {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

Stream::Stream(Options options) : session_(std::move(options)) {
  thread_ = std::thread([this] { run(); });
}

Stream::~Stream() {
  cancel();
  thread_.join();
}

void Stream::send(const std::int16_t* samples, std::size_t count) {
  {
    std::lock_guard lock(mutex_);
    session_.append(samples, count);
  }
  wake();
}

void Stream::send(const float* samples, std::size_t count) {
  {
    std::lock_guard lock(mutex_);
    session_.append(samples, count);
  }
  wake();
}

void Stream::end_utterance() {
  {
    std::lock_guard lock(mutex_);
    session_.end_utterance();
  }
  wake();
}

void Stream::configure(const std::vector<std::string>& phrases) {
  {
    std::lock_guard lock(mutex_);
    session_.configure(phrases, configure_message(phrases));
  }
  wake();
}

void Stream::finish() {
  {
    std::lock_guard lock(mutex_);
    session_.finish();
  }
  wake();
}

void Stream::cancel() {
  {
    std::lock_guard lock(mutex_);
    cancelled_ = true;
    session_.cancel();
  }
  changed_.notify_all();
  wake();
}

bool Stream::full() const {
  std::lock_guard lock(mutex_);
  return session_.full();
}

bool Stream::over() const {
  std::lock_guard lock(mutex_);
  return session_.over();
}

bool Stream::try_read(Event& event) { return read(event, std::chrono::milliseconds(0)); }

bool Stream::read(Event& event, std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, timeout, [this] { return !events_.empty() || cancelled_; }) || events_.empty()) return false;
  event = std::move(events_.front());
  events_.pop_front();
  return true;
}

void Stream::wake() {
  std::lock_guard lock(mutex_);
  if (wake_) wake_();
}

void Stream::collect() {
  for (Event& event : session_.take()) events_.push_back(std::move(event));
  changed_.notify_all();
}

// Connections, one after the other, until everything is answered or there is no hope.
void Stream::run() {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      const double wait = session_.retry_at() - now();
      if (wait > 0) changed_.wait_for(lock, std::chrono::duration<double>(wait), [this] { return cancelled_; });
      if (session_.over()) return;
      session_.opened(now());
    }
    connect();
  }
}

void Stream::connect() {
  std::string address, token;
  {
    std::lock_guard lock(mutex_);
    address = session_.address();
    token = session_.options().token;
  }
  try {
    asio::io_context io;
    if (address.rfind("wss:", 0) == 0) {
      asio::ssl::context tls(asio::ssl::context::tls_client);
      tls.set_default_verify_paths();
      tls.set_verify_mode(asio::ssl::verify_peer);
      std::make_shared<Connection<TlsSocket>>(*this, io, io, tls)->run(address, token);
    } else {
      std::make_shared<Connection<PlainSocket>>(*this, io, io)->run(address, token);
    }
  } catch (const boost::system::system_error& error) {  // no such host, no certificates
    std::lock_guard lock(mutex_);
    session_.closed(1006, error.code().message(), now());
    collect();
  }
}

}  // namespace voxkit
