using System;
using System.Collections.Generic;

namespace Voxkit
{
    /// <summary>What is kept until the server has answered it with a final: the audio since then, and where in it somebody asked for one.
    /// After a broken connection all of it is sent again: nothing is lost, and since what was answered is gone, nothing is said twice.
    /// Positions count frames (samples of all channels) since the beginning of the session.</summary>
    internal sealed class Backlog
    {
        private readonly int _rate, _channels;
        private readonly long _keep, _least, _most;
        private readonly List<long> _marks = new List<long>(); // frames at which a final was asked for and has not come
        private byte[] _audio = new byte[1 << 16]; // the frame _first and those behind it
        private long _first;
        private int _marksSent;
        private bool _closeSent;

        public Backlog(int rate, int channels, double keep)
        {
            _rate = rate;
            _channels = channels;
            _keep = (long)(keep * rate);
            _least = rate / 50; // of one message; less only before a command
            _most = rate / 2;
        }

        public long Begin { get; private set; }
        public long End { get; private set; }
        public long Sent { get; private set; }

        /// <summary>Frames that were given up without an answer.</summary>
        public long Lost { get; private set; }
        public bool Closing { get; set; }

        /// <summary>Seconds from the beginning of the session to the first frame that is kept.</summary>
        public double Offset { get { return (double)Begin / _rate; } }

        /// <summary>Seconds of audio that were not sent yet.</summary>
        public double Ahead { get { return (double)(End - Sent) / _rate; } }

        private int FrameBytes { get { return 2 * _channels; } }

        public void Append(short[] samples, int offset, int count)
        {
            if (count % _channels != 0) throw new ArgumentException(count + " samples are no whole frames of " + _channels + " channels");
            var place = Room(2 * count);
            for (var i = 0; i < count; i++)
            {
                _audio[place + 2 * i] = (byte)samples[offset + i];
                _audio[place + 2 * i + 1] = (byte)(samples[offset + i] >> 8);
            }
            End += count / _channels;
            var until = Math.Min(End - _keep, Sent); // what was not sent is never given up
            if (until > Begin)
            {
                Lost += until - Begin;
                Forget(until);
            }
        }

        /// <summary>A final is wanted of the audio so far.</summary>
        public void Mark() { _marks.Add(End); }

        /// <summary>What to send next: audio (byte[]), the name of a command (string), or null for nothing yet.</summary>
        public object Next()
        {
            var marked = _marksSent < _marks.Count;
            var waiting = (marked ? _marks[_marksSent] : End) - Sent;
            if (waiting >= _least || waiting > 0 && (marked || Closing))
            {
                var piece = new byte[Math.Min(waiting, _most) * FrameBytes];
                Buffer.BlockCopy(_audio, (int)((Sent - _first) * FrameBytes), piece, 0, piece.Length);
                Sent += piece.Length / FrameBytes;
                return piece;
            }
            if (marked)
            {
                _marksSent++;
                return "Finalize";
            }
            if (!Closing || _closeSent) return null;
            _closeSent = true;
            return "CloseStream";
        }

        /// <summary>Another connection: everything that is kept is to be sent to it.</summary>
        public void Rewind()
        {
            Sent = Begin;
            _marksSent = 0;
            _closeSent = false;
        }

        /// <summary>A final came for everything up to `seconds`; `fromFinalize`: it is the first that was asked for, and answers what was
        /// before.</summary>
        public void Commit(double seconds, bool fromFinalize)
        {
            var until = (long)Math.Round(seconds * _rate);
            if (fromFinalize && _marksSent > 0)
            {
                until = Math.Max(until, _marks[0]);
                _marks.RemoveAt(0);
                _marksSent--;
            }
            Forget(Math.Min(Sent, until));
        }

        private void Forget(long until)
        {
            Begin = Math.Max(Begin, until);
            Sent = Math.Max(Sent, Begin);
        }

        /// <summary>Where so many more bytes go; what was answered makes room for them.</summary>
        private int Room(int bytes)
        {
            var used = (int)((End - _first) * FrameBytes);
            if (used + bytes > _audio.Length)
            {
                var answered = (int)((Begin - _first) * FrameBytes);
                var kept = used - answered;
                var audio = kept + bytes > _audio.Length / 2 ? new byte[Math.Max(2 * _audio.Length, 2 * (kept + bytes))] : _audio;
                Buffer.BlockCopy(_audio, answered, audio, 0, kept);
                _audio = audio;
                _first = Begin;
                used = kept;
            }
            return used;
        }
    }
}
