using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.IO;
using System.Net.WebSockets;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace Voxkit
{
    /// <summary>One stream of speech to `voxkit serve`: audio up, events down. It survives broken connections and replicas that die: it comes
    /// back with the audio since the last final, so that nothing is lost and nothing comes twice.
    /// <code>
    /// using (var stream = new VoxkitStream(new ListenOptions { Phrases = new[] { "heal me" } }))
    /// {
    ///     stream.Send(samples, 0, samples.Length);      // any thread; never blocks
    ///     while (stream.TryRead(out var e)) Show(e);    // once in a frame
    ///     stream.EndUtterance();                        // the button was let go
    ///     stream.Finish();                              // the last event is Finished, or Error
    /// }
    /// </code></summary>
    public sealed class VoxkitStream : IDisposable
    {
        private readonly ListenOptions _options;
        private readonly Backlog _backlog;
        private readonly object _lock = new object(); // around _backlog and _changes
        private readonly List<IReadOnlyList<string>> _changes = new List<IReadOnlyList<string>>(); // phrases that the server has not answered
        private int _asked; // so many of them were sent on this connection
        private readonly ConcurrentQueue<VoxkitEvent> _events = new ConcurrentQueue<VoxkitEvent>();
        private readonly SemaphoreSlim _arrived = new SemaphoreSlim(0);
        private readonly SemaphoreSlim _wake = new SemaphoreSlim(0, 1);
        private readonly CancellationTokenSource _cancelled = new CancellationTokenSource();
        private readonly Random _random = new Random();
        private bool _begun, _progress;
        private volatile bool _over;

        /// <summary>Connects at once, on other threads. ArgumentException: options that no server takes.</summary>
        public VoxkitStream(ListenOptions options)
        {
            options.Check();
            _options = options;
            _backlog = new Backlog(options.SampleRate, options.Channels, options.Keep);
            Task.Run(() => Run());
        }

        /// <summary>Whether the stream is over: everything is answered, it was cancelled, or there is no hope. Events may still wait.</summary>
        public bool Over { get { return _over; } private set { _over = value; } }

        /// <summary>Whether so much audio is unsent that whoever reads a file should wait.</summary>
        public bool Full
        {
            get { lock (_lock) return !Over && _backlog.Ahead > _options.Ahead; }
        }

        /// <summary>More audio, 16 bits, interleaved.</summary>
        public void Send(short[] samples, int offset, int count)
        {
            lock (_lock)
            {
                if (_backlog.Closing) throw new InvalidOperationException("the stream was finished; open another");
                if (!Over) _backlog.Append(samples, offset, count);
            }
            Wake();
        }

        /// <summary>More audio in [-1, 1]; what is beyond is cut off.</summary>
        public void Send(float[] samples, int offset, int count)
        {
            var converted = new short[count];
            for (var i = 0; i < count; i++)
            {
                var x = samples[offset + i] * 32768f;
                converted[i] = x >= 32767f ? short.MaxValue : x <= -32768f ? short.MinValue : (short)Math.Round(x);
            }
            Send(converted, 0, count);
        }

        /// <summary>A final of the audio so far is wanted now: push-to-talk, the button was let go. It comes with FromFinalize.</summary>
        public void EndUtterance()
        {
            lock (_lock) _backlog.Mark();
            Wake();
        }

        /// <summary>Other phrases from the next utterance on; Configured says when it is done.</summary>
        public void Configure(IReadOnlyList<string> phrases)
        {
            lock (_lock) _changes.Add(new List<string>(phrases));
            Wake();
        }

        /// <summary>The audio is over; the last event is Finished when all of it is answered.</summary>
        public void Finish()
        {
            lock (_lock) _backlog.Closing = true;
            Wake();
        }

        /// <summary>Leave now; what is unanswered stays so. No further event.</summary>
        public void Cancel()
        {
            Over = true;
            _cancelled.Cancel();
        }

        public void Dispose() { Cancel(); }

        /// <summary>The next event, if there is one.</summary>
        public bool TryRead(out VoxkitEvent e) { return _events.TryDequeue(out e); }

        /// <summary>The next event, waited for; false: there was none for so long.</summary>
        public bool Read(out VoxkitEvent e, int milliseconds)
        {
            e = null;
            var until = DateTime.UtcNow.AddMilliseconds(milliseconds);
            while (!_events.TryDequeue(out e))
            {
                var left = (int)(until - DateTime.UtcNow).TotalMilliseconds;
                if (left <= 0 || !_arrived.Wait(left)) return _events.TryDequeue(out e);
            }
            return true;
        }

        private void Say(VoxkitEvent e)
        {
            _events.Enqueue(e);
            _arrived.Release();
        }

        private void Wake()
        {
            try { if (_wake.CurrentCount == 0) _wake.Release(); }
            catch (SemaphoreFullException) { } // another thread did it
        }

        /// <summary>Connections, one after the other, until everything is answered or there is no hope.</summary>
        private async Task Run()
        {
            var failures = 0;
            long lost = 0;
            while (!_cancelled.IsCancellationRequested)
            {
                var opened = DateTime.UtcNow;
                _progress = false;
                VoxkitEvent last;
                try { last = await Connection().ConfigureAwait(false); }
                catch (OperationCanceledException) { return; }
                catch (Exception error) when (!_cancelled.IsCancellationRequested) { last = Broken(1002, "PROTOCOL", error.ToString()); }
                if (_cancelled.IsCancellationRequested) return;
                var retries = Retries(last.Code);
                var lasted = retries == _options.Attempts && (DateTime.UtcNow - opened).TotalSeconds > _options.Longest;
                failures = _progress || lasted ? 0 : failures + 1;
                if (last.Kind == EventKind.Finished || failures > retries || last.Code == 1006 && !_begun)
                {
                    Over = true;
                    Say(last);
                    return;
                }
                double wait = Pause(last, failures), offset;
                lock (_lock)
                {
                    offset = _backlog.Offset;
                    lost = _backlog.Lost - lost;
                }
                Say(new VoxkitEvent
                {
                    Kind = EventKind.Reconnecting, Code = last.Code, Name = last.Name, Message = last.Message, Wait = wait, Offset = offset,
                    Lost = (double)lost / _options.SampleRate,
                });
                lock (_lock) lost = _backlog.Lost;
                try { await Task.Delay(TimeSpan.FromSeconds(wait), _cancelled.Token).ConfigureAwait(false); }
                catch (OperationCanceledException) { return; }
            }
        }

        /// <summary>docs/serving.md: how often in a row, without a new final, a client comes back after a close code; -1: never.</summary>
        private int Retries(int code)
        {
            switch (code)
            {
                case 1011: return 1;
                case 4413: return 0;
                case 1001: case 1006: case 1012: case 1013: case 4408: case 4429: case 4503: return _options.Attempts;
                default: return -1;
            }
        }

        private double Pause(VoxkitEvent error, int failures)
        {
            if (!double.IsNaN(error.Wait)) return error.Wait * (1 + 0.25 * _random.NextDouble());
            var atOnce = error.Code == 1001 || error.Code == 1012 || error.Code == 4408 || error.Code == 4413 || error.Code == 4503;
            if (failures <= 1 && atOnce) return 0;
            return Math.Min(_options.Longest, _options.First * Math.Pow(2, Math.Max(0, failures - 1))) * (0.5 + 0.5 * _random.NextDouble());
        }

        /// <summary>One connection → Finished, or the Error with which it ended.</summary>
        private async Task<VoxkitEvent> Connection()
        {
            VoxkitEvent refused = null, finished = null;
            Task sender = null;
            using (var over = CancellationTokenSource.CreateLinkedTokenSource(_cancelled.Token))
            using (var socket = new ClientWebSocket())
            {
                if (_options.Token.Length > 0) socket.Options.SetRequestHeader("Authorization", "Bearer " + _options.Token);
                Uri address;
                lock (_lock) address = _options.Address(_backlog.Offset);
                if (await Opened(socket, address, over.Token).ConfigureAwait(false) is string problem)
                    return Broken(1006, "UNREACHABLE", address.GetLeftPart(UriPartial.Path) + " cannot be reached (" + problem + ")");
                try
                {
                    string message;
                    while ((message = await Receive(socket, over.Token).ConfigureAwait(false)) != null)
                    {
                        VoxkitEvent e;
                        try { e = VoxkitEvent.Parse(message); }
                        catch (FormatException error)
                        {
                            return Broken(1002, "PROTOCOL", "no message of voxkit serve: " + error.Message);
                        }
                        if (e == null) continue;
                        if (e.Kind == EventKind.Error) refused = e;
                        else if (e.Kind == EventKind.Finished) finished = e;
                        else
                        {
                            if (e.Kind == EventKind.Connected && sender == null)
                            {
                                _begun = true;
                                lock (_lock)
                                {
                                    _backlog.Rewind();
                                    _asked = 0;
                                }
                                sender = SendAll(socket, over.Token);
                            }
                            else if (e.Kind == EventKind.Result && e.Final)
                            {
                                _progress = true;
                                lock (_lock) _backlog.Commit(e.Start + e.Duration, e.FromFinalize);
                            }
                            else if (e.Kind == EventKind.Configured) Answered(e);
                            Say(e);
                        }
                    }
                }
                catch (Exception error) when (IsBroken(error)) { _cancelled.Token.ThrowIfCancellationRequested(); }
                var code = socket.CloseStatus.HasValue ? (int)socket.CloseStatus.Value : 1006;
                var reason = socket.CloseStatusDescription;
                over.Cancel();
                if (sender != null) await sender.ConfigureAwait(false);
                if (finished != null && code == 1000 && _backlog.Closing) return finished;
                if (refused != null) return refused;
                return Broken(code == 1000 ? 1001 : code, "CLOSED", "the connection was closed by the other side" +
                              (string.IsNullOrEmpty(reason) ? "" : ": " + reason));
            }
        }

        private void Answered(VoxkitEvent configured)
        {
            lock (_lock)
            {
                if (_asked == 0) return;
                _asked--;
                if (string.IsNullOrEmpty(configured.Message)) _options.Phrases = _changes[0];
                _changes.RemoveAt(0);
            }
        }

        /// <summary>What to send next: a change, then what the backlog has.</summary>
        private object Next()
        {
            if (_asked == _changes.Count) return _backlog.Next();
            return Json.Write(new Dictionary<string, object> { { "type", "Configure" }, { "keyterms", _changes[_asked++] } });
        }

        private static VoxkitEvent Broken(int code, string name, string message)
        {
            return new VoxkitEvent { Kind = EventKind.Error, Code = code, Name = name, Message = message, Wait = double.NaN };
        }

        /// <summary>Connect → null, or what was wrong.</summary>
        private async Task<string> Opened(ClientWebSocket socket, Uri address, CancellationToken over)
        {
            using (var late = CancellationTokenSource.CreateLinkedTokenSource(over))
            {
                late.CancelAfter(TimeSpan.FromSeconds(_options.ConnectTimeout));
                try
                {
                    await socket.ConnectAsync(address, late.Token).ConfigureAwait(false);
                    return null;
                }
                catch (Exception error) when (IsBroken(error))
                {
                    over.ThrowIfCancellationRequested();
                    return late.IsCancellationRequested ? "timed out" : error.GetBaseException().Message;
                }
            }
        }

        /// <summary>The next text message, or null where the other side closed.</summary>
        private static async Task<string> Receive(ClientWebSocket socket, CancellationToken over)
        {
            var buffer = new ArraySegment<byte>(new byte[16384]);
            using (var message = new MemoryStream())
            {
                while (true)
                {
                    var got = await socket.ReceiveAsync(buffer, over).ConfigureAwait(false);
                    if (got.MessageType == WebSocketMessageType.Close) return null;
                    message.Write(buffer.Array, 0, got.Count);
                    if (got.EndOfMessage) return Encoding.UTF8.GetString(message.ToArray());
                }
            }
        }

        private async Task SendAll(ClientWebSocket socket, CancellationToken over)
        {
            try
            {
                while (true)
                {
                    object item;
                    lock (_lock) item = Next();
                    if (item == null)
                    {
                        if (await _wake.WaitAsync(TimeSpan.FromSeconds(_options.KeepAlive), over).ConfigureAwait(false)) continue;
                        item = "KeepAlive";
                    }
                    var text = item as string;
                    if (text != null && text[0] != '{') text = "{\"type\": \"" + text + "\"}";
                    var bytes = text == null ? (byte[])item : Encoding.UTF8.GetBytes(text);
                    var type = text == null ? WebSocketMessageType.Binary : WebSocketMessageType.Text;
                    await socket.SendAsync(new ArraySegment<byte>(bytes), type, true, over).ConfigureAwait(false);
                }
            }
            catch (Exception error) when (IsBroken(error)) { } // whoever receives finds out why
        }

        private static bool IsBroken(Exception error)
        {
            return error is WebSocketException || error is IOException || error is OperationCanceledException ||
                   error is ObjectDisposedException || error is InvalidOperationException || error is System.Net.WebException ||
                   error is System.Net.Sockets.SocketException;
        }
    }
}
