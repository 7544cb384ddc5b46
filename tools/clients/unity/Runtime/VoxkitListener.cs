using System;
using UnityEngine;
using UnityEngine.Events;

namespace Voxkit
{
    [Serializable] public class TextEvent : UnityEvent<string> { }
    [Serializable] public class ResultEvent : UnityEvent<VoxkitEvent> { }
    [Serializable] public class ProblemEvent : UnityEvent<int, string> { }

    /// <summary>The microphone to a voxkit server. With push-to-talk, what is said between Press and Release is one utterance; without, silence
    /// ends utterances. All events come on Unity's main thread.</summary>
    [AddComponentMenu("Audio/Voxkit Listener")]
    public class VoxkitListener : MonoBehaviour
    {
        private const int Ring = 10; // seconds of the microphone's clip, which Unity fills in a circle

        [Tooltip("ws://host:port of voxkit serve, wss:// over the internet")]
        public string url = "ws://127.0.0.1:8000";
        [Tooltip("What the server asks for, if it does")]
        public string token = "";
        [Tooltip("Speech is sent between Press() and Release(); otherwise always")]
        public bool pushToTalk = true;
        [Tooltip("Without push-to-talk: milliseconds of silence that end an utterance")]
        public float endpointing = 500;
        [Tooltip("Names and commands to favor")]
        public string[] phrases = new string[0];
        [Tooltip("Of Microphone.devices; empty: the default one")]
        public string device = "";

        [Tooltip("What is being said; each text replaces the one before")]
        public TextEvent onPartial = new TextEvent();
        [Tooltip("What was said")]
        public TextEvent onFinal = new TextEvent();
        [Tooltip("Partial and final results with word times and confidences")]
        public ResultEvent onResult = new ResultEvent();
        [Tooltip("Code and message of what ended the stream (docs/serving.md); enable the component again to try again")]
        public ProblemEvent onError = new ProblemEvent();

        private VoxkitStream _stream;
        private AudioClip _clip;
        private int _read; // of the clip, in samples
        private bool _talking;

        /// <summary>Whether the button is held, or there is none.</summary>
        public bool Talking { get { return _talking || !pushToTalk; } }

        private string Device { get { return device.Length > 0 ? device : null; } }

        /// <summary>The button goes down.</summary>
        public void Press()
        {
            if (_talking) return;
            _talking = true;
            if (_clip) _read = Microphone.GetPosition(Device);
        }

        /// <summary>The button goes up: the final text is asked for.</summary>
        public void Release()
        {
            if (!_talking) return;
            Listen(); // up to now
            _talking = false;
            if (_stream != null && !_stream.Over) _stream.EndUtterance();
        }

        /// <summary>Other phrases, from the next utterance on.</summary>
        public void SetPhrases(string[] others)
        {
            phrases = others;
            if (_stream != null && !_stream.Over) _stream.Configure(others);
        }

        private void OnEnable()
        {
            if (Microphone.devices.Length == 0)
            {
                onError.Invoke(0, "there is no microphone, or it is not allowed");
                enabled = false;
                return;
            }
            int least, most, rate = 16000;
            Microphone.GetDeviceCaps(Device, out least, out most);
            if (most > 0 && (rate < least || rate > most)) rate = most >= 48000 && least <= 48000 ? 48000 : most;
            try
            {
                _clip = Microphone.Start(Device, true, Ring, rate);
                _stream = new VoxkitStream(new ListenOptions
                {
                    Url = url, Token = token, SampleRate = _clip.frequency, Endpointing = pushToTalk ? 0 : endpointing, Phrases = phrases,
                });
            }
            catch (ArgumentException error)
            {
                onError.Invoke(0, error.Message);
                enabled = false;
                return;
            }
            _read = 0;
        }

        private void OnDisable()
        {
            if (_clip) Microphone.End(Device);
            if (_stream != null) _stream.Dispose();
            _stream = null;
            _clip = null;
            _talking = false;
        }

        private void Update()
        {
            if (_stream == null) return;
            if (Talking) Listen();
            VoxkitEvent e;
            while (_stream != null && _stream.TryRead(out e)) Tell(e);
        }

        /// <summary>Hand over what the microphone has heard since the last time.</summary>
        private void Listen()
        {
            if (!_clip || _stream == null || _stream.Over) return;
            var now = Microphone.GetPosition(Device);
            if (now == _read) return;
            if (now < _read) Hand(_read, _clip.samples); // the circle was closed
            Hand(now < _read ? 0 : _read, now);
            _read = now;
        }

        /// <summary>Samples from one place in the clip to another: the first channel of them.</summary>
        private void Hand(int from, int until)
        {
            if (until == from) return;
            var heard = new float[(until - from) * _clip.channels];
            _clip.GetData(heard, from);
            for (var i = 0; i < until - from; i++) heard[i] = heard[i * _clip.channels];
            _stream.Send(heard, 0, until - from);
        }

        private void Tell(VoxkitEvent e)
        {
            switch (e.Kind)
            {
                case EventKind.Result:
                    onResult.Invoke(e);
                    if (!e.Final) onPartial.Invoke(e.Text);
                    else if (e.Text.Length > 0) onFinal.Invoke(e.Text);
                    break;
                case EventKind.Reconnecting:
                    Debug.LogWarning("voxkit: " + e.Message + "; again in " + e.Wait.ToString("0.0") + " s");
                    break;
                case EventKind.Error:
                    enabled = false;
                    onError.Invoke(e.Code, e.Message);
                    break;
            }
        }
    }
}
