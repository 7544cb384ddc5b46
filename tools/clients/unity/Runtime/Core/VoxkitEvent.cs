using System;
using System.Collections.Generic;

namespace Voxkit
{
    public enum EventKind
    {
        /// <summary>A server took the stream.</summary>
        Connected,
        /// <summary>Somebody began to speak, at Start.</summary>
        SpeechStarted,
        /// <summary>Text: of what was heard of an utterance, or Final.</summary>
        Result,
        /// <summary>What Configure asked for holds, or Message says why nothing was changed.</summary>
        Configured,
        /// <summary>The connection broke and is made again in Wait seconds; results that are not final are void.</summary>
        Reconnecting,
        /// <summary>Everything is answered: the stream is over.</summary>
        Finished,
        /// <summary>The stream is over, and not because its audio is: Code, Name, Message.</summary>
        Error,
    }

    /// <summary>A recognized word: seconds from the beginning of the session, confidence in [0, 1].</summary>
    public struct Word
    {
        public string Text;
        public double Start, End, Confidence;
    }

    /// <summary>What a stream has to say. Which fields are set depends on Kind.</summary>
    public sealed class VoxkitEvent
    {
        public EventKind Kind;

        /// <summary>Of a Result: the text of the utterance since Start.</summary>
        public string Text = "";
        /// <summary>Whether the text stays; else the next Result replaces it.</summary>
        public bool Final;
        /// <summary>Whether silence ended the utterance, or EndUtterance did.</summary>
        public bool SpeechFinal, FromFinalize;
        /// <summary>Seconds: from the beginning of the session, and of audio.</summary>
        public double Start, Duration;
        public double Confidence;
        /// <summary>Of a final Result.</summary>
        public Word[] Words = new Word[0];

        /// <summary>Of Error and Reconnecting: the close code (docs/serving.md; 1006 where the server cannot be reached) and its name; of
        /// Configured an empty Message where the change was made.</summary>
        public int Code;
        public string Name = "", Message = "";

        /// <summary>Of Reconnecting: seconds until the attempt, where the audio begins that is sent again, and what is lost of it.</summary>
        public double Wait, Offset, Lost;

        /// <summary>Of Connected: the session's name at the server, and all that it says of itself.</summary>
        public string Session = "";
        public Dictionary<string, object> Raw;

        /// <summary>A message of the server; null for one that says nothing to a client. FormatException: it is none of voxkit serve.</summary>
        internal static VoxkitEvent Parse(string message)
        {
            try
            {
                var raw = (Dictionary<string, object>)Json.Parse(message);
                switch ((string)raw["type"])
                {
                    case "Results": return Result(raw);
                    case "Begin": return new VoxkitEvent { Kind = EventKind.Connected, Session = (string)raw["request_id"], Raw = raw };
                    case "SpeechStarted": return new VoxkitEvent { Kind = EventKind.SpeechStarted, Start = (double)raw["timestamp"] };
                    case "ConfigureSuccess": return new VoxkitEvent { Kind = EventKind.Configured };
                    case "ConfigureFailure": return new VoxkitEvent { Kind = EventKind.Configured, Message = (string)raw["description"] };
                    case "Metadata": return new VoxkitEvent { Kind = EventKind.Finished, Duration = (double)raw["duration"] };
                    case "Error":
                        return new VoxkitEvent
                        {
                            Kind = EventKind.Error, Code = (int)(double)raw["code"], Message = (string)raw["message"],
                            Name = raw.TryGetValue("variant", out var name) ? (string)name : "ERROR",
                            Wait = raw.TryGetValue("retry_after", out var after) && after is double seconds ? seconds : double.NaN,
                        };
                    default: return null;
                }
            }
            catch (Exception error) when (error is KeyNotFoundException || error is InvalidCastException || error is NullReferenceException ||
                                          error is ArgumentException)
            {
                throw new FormatException(error.Message);
            }
        }

        private static VoxkitEvent Result(Dictionary<string, object> raw)
        {
            var channel = (Dictionary<string, object>)raw["channel"];
            var best = (Dictionary<string, object>)((List<object>)channel["alternatives"])[0];
            var words = (List<object>)best["words"];
            var result = new VoxkitEvent
            {
                Kind = EventKind.Result, Text = (string)best["transcript"], Confidence = (double)best["confidence"],
                Final = (bool)raw["is_final"], SpeechFinal = (bool)raw["speech_final"], FromFinalize = (bool)raw["from_finalize"],
                Start = (double)raw["start"], Duration = (double)raw["duration"], Words = new Word[words.Count],
            };
            for (var i = 0; i < words.Count; i++)
            {
                var word = (Dictionary<string, object>)words[i];
                result.Words[i] = new Word
                {
                    Text = (string)word["word"], Start = (double)word["start"], End = (double)word["end"],
                    Confidence = (double)word["confidence"],
                };
            }
            return result;
        }
    }
}
