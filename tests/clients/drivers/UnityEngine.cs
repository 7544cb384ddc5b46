// Signatures of what the Unity component uses of the engine, as far as the compiler asks for them. Nothing here runs.
using System;

namespace UnityEngine
{
    public class Object { public string name; public static implicit operator bool(Object o) { return o != null; } }
    public class MonoBehaviour : Object { public bool enabled; }
    public class AudioClip : Object
    {
        public int frequency, channels, samples;
        public bool GetData(float[] data, int offset) { throw new NotSupportedException(); }
    }
    public static class Microphone
    {
        public static string[] devices;
        public static AudioClip Start(string device, bool loop, int seconds, int rate) { throw new NotSupportedException(); }
        public static void End(string device) { }
        public static int GetPosition(string device) { throw new NotSupportedException(); }
        public static void GetDeviceCaps(string device, out int least, out int most) { throw new NotSupportedException(); }
    }
    public enum KeyCode { None, V }
    public static class Input { public static bool GetKeyDown(KeyCode key) { return false; } public static bool GetKeyUp(KeyCode key) { return false; } }
    public static class Debug { public static void Log(object message) { } public static void LogWarning(object message) { } }
    [AttributeUsage(AttributeTargets.Field)] public class SerializeField : Attribute { }
    [AttributeUsage(AttributeTargets.Field)] public class TooltipAttribute : Attribute { public TooltipAttribute(string text) { } }
    [AttributeUsage(AttributeTargets.Class)] public class AddComponentMenu : Attribute { public AddComponentMenu(string path) { } }
}

namespace UnityEngine.Events
{
    public class UnityEvent<T> { public void Invoke(T value) { } public void AddListener(Action<T> listener) { } }
    public class UnityEvent<T, U> { public void Invoke(T first, U second) { } }
}
