// One connection over Boost.Beast, plain or with TLS.
#pragma once

#include <boost/asio.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast.hpp>
#include <boost/beast/ssl.hpp>
#include <boost/beast/websocket.hpp>
#include <boost/beast/websocket/ssl.hpp>

#include "voxkit/messages.h"
#include "voxkit/stream.h"

namespace voxkit {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace websocket = beast::websocket;
using PlainSocket = websocket::stream<beast::tcp_stream>;
using TlsSocket = websocket::stream<beast::ssl_stream<beast::tcp_stream>>;

double now();

// Runs in the thread of its stream; other threads only post to it.
template <class Socket>
class Connection : public std::enable_shared_from_this<Connection<Socket>> {
 public:
  template <class... Arguments>
  Connection(Stream& stream, asio::io_context& io, Arguments&&... arguments)
      : stream_(stream), io_(io), timer_(io), socket_(std::forward<Arguments>(arguments)...) {}

  // Until the connection is over, and the session was told why.
  void run(const std::string& address, const std::string& token) {
    const std::size_t begin = address.find("://") + 3, slash = address.find('/', begin);
    const std::string authority = address.substr(begin, slash - begin), scheme = address.substr(0, begin - 3);
    const std::size_t bracket = authority.rfind(']'), colon = authority.find(':', bracket == std::string::npos ? 0 : bracket);
    std::string host = authority.substr(0, colon);
    const std::string port = colon == std::string::npos ? (scheme == "wss" ? "443" : "80") : authority.substr(colon + 1);
    if (host.front() == '[') host = host.substr(1, host.size() - 2);
    const auto found = asio::ip::tcp::resolver(io_).resolve(host, port);
    {
      std::lock_guard lock(stream_.mutex_);
      lowest().expires_after(std::chrono::milliseconds(std::llround(1000 * stream_.session_.options().connect)));
      stream_.wake_ = [self = this->shared_from_this()] { asio::post(self->io_, [self] { self->pump(); }); };
    }
    lowest().async_connect(found, [=, self = this->shared_from_this()](beast::error_code error, const auto&) {
      if (error) return self->end(error);
      self->secure(host, [=](beast::error_code failed) {
        if (failed) return self->end(failed);
        self->upgrade(authority, address.substr(slash), token);
      });
    });
    io_.run();
    std::lock_guard lock(stream_.mutex_);
    stream_.wake_ = nullptr;
  }

 private:
  beast::tcp_stream& lowest() { return beast::get_lowest_layer(socket_); }

  template <class Then>
  void secure(const std::string& host, Then then) {
    if constexpr (std::is_same_v<Socket, TlsSocket>) {
      SSL_set_tlsext_host_name(socket_.next_layer().native_handle(), host.c_str());
      socket_.next_layer().set_verify_callback(asio::ssl::host_name_verification(host));
      socket_.next_layer().async_handshake(asio::ssl::stream_base::client, then);
    } else {
      then({});
    }
  }

  void upgrade(const std::string& authority, const std::string& target, const std::string& token) {
    lowest().expires_never();
    websocket::stream_base::timeout limits{};
    limits.handshake_timeout = std::chrono::seconds(10);
    limits.idle_timeout = std::chrono::seconds(20);  // pings find out whether the other side is there
    limits.keep_alive_pings = true;
    socket_.set_option(limits);
    socket_.set_option(websocket::stream_base::decorator([token](websocket::request_type& request) {
      if (!token.empty()) request.set(beast::http::field::authorization, "Bearer " + token);
    }));
    socket_.read_message_max(4 << 20);
    socket_.async_handshake(authority, target, [self = this->shared_from_this()](beast::error_code error) {
      if (error) return self->end(error);
      self->open_ = true;
      self->listen();
    });
  }

  void listen() {
    socket_.async_read(buffer_, [self = this->shared_from_this()](beast::error_code error, std::size_t) {
      if (error) return self->end(error);
      const std::string message = beast::buffers_to_string(self->buffer_.data());
      self->buffer_.consume(self->buffer_.size());
      try {
        if (auto event = parse(message)) {
          std::lock_guard lock(self->stream_.mutex_);
          self->stream_.session_.heard(std::move(*event), now());
          self->stream_.collect();
        }
      } catch (const std::runtime_error& wrong) {
        return self->end(1002, wrong.what());
      }
      self->pump();
      self->listen();
    });
  }

  // Send what there is, one message at a time; then wait for more, or until it is time to say that the client is there.
  void pump() {
    {
      std::lock_guard lock(stream_.mutex_);
      if (stream_.cancelled_) return drop();
      if (!open_ || writing_) return;
      auto item = stream_.session_.next(now());
      if (item) out_ = std::move(*item);
      writing_ = item.has_value();
    }
    if (!writing_) {
      timer_.expires_after(std::chrono::milliseconds(500));
      timer_.async_wait([self = this->shared_from_this()](beast::error_code error) {
        if (!error) self->pump();
      });
      return;
    }
    socket_.binary(out_.binary);
    socket_.async_write(asio::buffer(out_.data), [self = this->shared_from_this()](beast::error_code error, std::size_t) {
      self->writing_ = false;
      if (!error) self->pump();  // whoever reads finds out why
    });
  }

  void end(beast::error_code error) {
    if (error == websocket::error::closed) return end(socket_.reason().code, socket_.reason().reason.c_str());
    end(1006, error == beast::error::timeout ? "timed out" : error.message());
  }

  void end(int code, const std::string& reason) {
    if (!std::exchange(ended_, true)) {
      std::lock_guard lock(stream_.mutex_);
      stream_.session_.closed(code, reason, now());
      stream_.collect();
      stream_.wake_ = nullptr;
    }
    drop();
  }

  void drop() {
    open_ = false;
    beast::error_code ignored;
    lowest().socket().close(ignored);
    io_.stop();  // not waiting for timers that Beast has set
  }

  Stream& stream_;
  asio::io_context& io_;
  asio::steady_timer timer_;
  Socket socket_;
  beast::flat_buffer buffer_;
  Session::Item out_;
  bool open_ = false, writing_ = false, ended_ = false;
};

}  // namespace voxkit
