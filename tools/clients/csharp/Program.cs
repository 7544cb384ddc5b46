using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Threading;
using Voxkit;

/// <summary>A WAV file to `voxkit serve`; events as lines of JSON. --press asks for a final after each so many seconds, as a button does that is
/// let go.
///     voxkit-client URL FILE.wav [--speed S] [--endpointing MS] [--phrase P]... [--boost B] [--token T] [--press SECONDS]
///                   [--cancel-after SECONDS] [--configure PHRASE] [--attempts N] [--first SECONDS]</summary>
internal static class Program
{
    private static readonly Dictionary<string, string> Given = new Dictionary<string, string>();
    private static readonly List<string> Phrases = new List<string>();
    private static int _status;
    private static bool _over; // the last event was said

    private static int Main(string[] arguments)
    {
        var names = new[] { "speed", "endpointing", "phrase", "boost", "token", "press", "cancel-after", "configure", "attempts", "first" };
        var paths = new List<string>();
        for (var i = 0; i < arguments.Length; i++)
        {
            if (!arguments[i].StartsWith("--", StringComparison.Ordinal)) { paths.Add(arguments[i]); continue; }
            var name = arguments[i].Substring(2);
            if (Array.IndexOf(names, name) < 0 || ++i == arguments.Length) return Usage("unknown option, or without a value: --" + name);
            if (name == "phrase") Phrases.Add(arguments[i]);
            else Given[name] = arguments[i];
        }
        if (paths.Count != 2) return Usage("give the server's address and a WAV file");
        try
        {
            var file = new Wav(paths[1]);
            Stream(file, new ListenOptions
            {
                Url = paths[0], Token = Text("token"), SampleRate = file.Rate, Channels = file.Channels, Phrases = Phrases,
                Endpointing = Number("endpointing", 500), Boost = Number("boost", 0), Attempts = (int)Number("attempts", 8),
                First = Number("first", 0.5),
            });
        }
        catch (Exception error) when (error is IOException || error is ArgumentException || error is FormatException)
        {
            return Usage(error.Message);
        }
        return _status;
    }

    private static void Stream(Wav file, ListenOptions options)
    {
        double speed = Number("speed", 0), cancel = Number("cancel-after", double.PositiveInfinity);
        int size = file.Rate / 10 * file.Channels, press = (int)Math.Round(10 * Number("press", 0));
        using (var stream = new VoxkitStream(options))
        {
            VoxkitEvent e;
            while (!stream.Read(out e, 1000)) { } // Connected, or why not
            Say(e);
            var begun = DateTime.UtcNow;
            for (int i = 1, first = 0; first < file.Samples.Length && !_over; i++, first += size)
            {
                if (speed > 0) Sleep(0.1 * i / speed - (DateTime.UtcNow - begun).TotalSeconds);
                while (stream.Full) Thread.Sleep(5);
                stream.Send(file.Samples, first, Math.Min(size, file.Samples.Length - first));
                if (press > 0 && i % press == 0) stream.EndUtterance();
                if (Given.ContainsKey("configure") && i == 1) stream.Configure(new[] { Text("configure") });
                Drain(stream);
                if (i < 10 * cancel) continue;
                stream.Cancel();
                Drain(stream);
                Console.WriteLine("{\"event\":\"Cancelled\"}");
                return;
            }
            stream.Finish();
            while (!_over)
                if (stream.Read(out e, 1000)) Say(e);
        }
    }

    /// <summary>The events that are there already.</summary>
    private static void Drain(VoxkitStream stream)
    {
        VoxkitEvent e;
        while (stream.TryRead(out e)) Say(e);
    }

    private static void Say(VoxkitEvent e)
    {
        _over = e.Kind == EventKind.Finished || e.Kind == EventKind.Error;
        var said = new Dictionary<string, object> { { "event", e.Kind.ToString() } };
        var error = new Dictionary<string, object> { { "code", e.Code }, { "name", e.Name }, { "message", e.Message } };
        switch (e.Kind)
        {
            case EventKind.Connected: said["session"] = e.Session; break;
            case EventKind.SpeechStarted: said["timestamp"] = e.Start; break;
            case EventKind.Configured: said["problem"] = e.Message; break;
            case EventKind.Finished: said["duration"] = e.Duration; break;
            case EventKind.Error:
                foreach (var field in error) said[field.Key] = field.Value;
                _status = 1;
                break;
            case EventKind.Reconnecting:
                said["error"] = error;
                said["wait"] = e.Wait;
                said["offset"] = e.Offset;
                said["lost"] = e.Lost;
                break;
            case EventKind.Result:
                said["text"] = e.Text;
                said["final"] = e.Final;
                said["start"] = e.Start;
                said["duration"] = e.Duration;
                said["confidence"] = e.Confidence;
                said["speech_final"] = e.SpeechFinal;
                said["from_finalize"] = e.FromFinalize;
                said["words"] = e.Words.Select(w => new Dictionary<string, object>
                {
                    { "word", w.Text }, { "start", w.Start }, { "end", w.End }, { "confidence", w.Confidence },
                }).ToArray();
                break;
        }
        Console.WriteLine(Json.Write(said));
    }

    private static void Sleep(double seconds) { if (seconds > 0) Thread.Sleep(TimeSpan.FromSeconds(seconds)); }

    private static string Text(string name) { return Given.TryGetValue(name, out var value) ? value : ""; }

    private static double Number(string name, double usual)
    {
        return Given.TryGetValue(name, out var value) ? double.Parse(value, CultureInfo.InvariantCulture) : usual;
    }

    private static int Usage(string problem)
    {
        Console.Error.WriteLine(problem);
        return 2;
    }

    /// <summary>A WAV file of 16-bit PCM.</summary>
    private sealed class Wav
    {
        public readonly int Rate, Channels;
        public readonly short[] Samples;

        public Wav(string path)
        {
            var file = File.ReadAllBytes(path);
            for (var place = 12; place + 8 <= file.Length;)
            {
                var name = System.Text.Encoding.ASCII.GetString(file, place, 4);
                var size = BitConverter.ToInt32(file, place + 4);
                if (name == "fmt " && BitConverter.ToInt16(file, place + 22) == 16)
                {
                    Channels = BitConverter.ToInt16(file, place + 10);
                    Rate = BitConverter.ToInt32(file, place + 12);
                }
                else if (name == "data" && Rate > 0)
                {
                    Samples = new short[Math.Min((uint)size, file.Length - place - 8) / 2];
                    Buffer.BlockCopy(file, place + 8, Samples, 0, 2 * Samples.Length);
                    return;
                }
                place += 8 + size + (size & 1);
            }
            throw new FormatException(path + " is no WAV file of 16-bit PCM");
        }
    }
}
