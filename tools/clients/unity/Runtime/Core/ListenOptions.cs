using System;
using System.Collections.Generic;
using System.Globalization;
using System.Text;

namespace Voxkit
{
    /// <summary>What a client asks for: where, in what form the audio comes, what is to be said about it, how long to try.</summary>
    public sealed class ListenOptions
    {
        public static readonly int[] Rates = { 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000 };

        /// <summary>ws://host:port or wss://…; http and https mean the same. /v1/listen comes behind its path.</summary>
        public string Url = "ws://127.0.0.1:8000";
        /// <summary>Sent as Authorization: Bearer; empty: none.</summary>
        public string Token = "";
        public int SampleRate = 16000;
        public int Channels = 1;
        public bool InterimResults = true;
        /// <summary>Milliseconds of silence that end an utterance; 0: only EndUtterance and Finish do.</summary>
        public double Endpointing = 500;
        /// <summary>To favor, each by Boost nats per token (0: the server's usual strength).</summary>
        public IReadOnlyList<string> Phrases = new string[0];
        public double Boost;
        /// <summary>Seconds of audio at most that are kept for a reconnection.</summary>
        public double Keep = 600;
        /// <summary>Seconds of unsent audio from which VoxkitStream.Full is true.</summary>
        public double Ahead = 5;
        /// <summary>Seconds without audio after which the server is told that the client is there.</summary>
        public double KeepAlive = 4;
        /// <summary>Failures in a row before the client gives up; seconds to wait after one, doubled each time, and the most that grows to.</summary>
        public int Attempts = 8;
        public double First = 0.5, Longest = 10;
        /// <summary>Seconds that a connection may take to be made.</summary>
        public double ConnectTimeout = 10;

        /// <summary>ArgumentException: something that no server takes.</summary>
        internal void Check()
        {
            if (Array.IndexOf(Rates, SampleRate) < 0)
                throw new ArgumentException("SampleRate " + SampleRate + ": one of " + string.Join(", ", Rates));
            if (Channels < 1 || Channels > 2) throw new ArgumentException("Channels " + Channels + ": 1 or 2");
            if (!Uri.TryCreate(Url, UriKind.Absolute, out var url) || Array.IndexOf(new[] { "ws", "wss", "http", "https" }, url.Scheme) < 0)
                throw new ArgumentException("Url " + Url + " is none of a server; give e.g. ws://127.0.0.1:8000");
        }

        /// <summary>Where to connect for audio that begins at `offset` seconds of the session.</summary>
        internal Uri Address(double offset)
        {
            var url = new UriBuilder(Url);
            url.Scheme = url.Scheme == "http" ? "ws" : url.Scheme == "https" ? "wss" : url.Scheme;
            var path = url.Path.TrimEnd('/');
            url.Path = path.EndsWith("/v1/listen", StringComparison.Ordinal) ? path : path + "/v1/listen";
            var query = new StringBuilder(url.Query.TrimStart('?'));
            Add(query, "encoding", "linear16");
            Add(query, "sample_rate", Number(SampleRate));
            Add(query, "channels", Number(Channels));
            Add(query, "interim_results", InterimResults ? "true" : "false");
            Add(query, "endpointing", Endpointing > 0 ? Number(Endpointing) : "false");
            Add(query, "offset", offset.ToString("F6", CultureInfo.InvariantCulture));
            if (Boost > 0) Add(query, "keyterm_boost", Number(Boost));
            foreach (var phrase in Phrases) Add(query, "keyterm", phrase);
            url.Query = query.ToString();
            return url.Uri;
        }

        private static string Number(double value) { return value.ToString(CultureInfo.InvariantCulture); }

        private static void Add(StringBuilder query, string name, string value)
        {
            if (query.Length > 0) query.Append('&');
            query.Append(name).Append('=').Append(Uri.EscapeDataString(value));
        }
    }
}
