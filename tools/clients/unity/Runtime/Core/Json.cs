using System;
using System.Collections;
using System.Collections.Generic;
using System.Globalization;
using System.Text;

namespace Voxkit
{
    /// <summary>JSON (RFC 8259) as Dictionary&lt;string, object&gt;, List&lt;object&gt;, string, double, bool and null: Unity has no reader of its
    /// own for messages whose fields differ.</summary>
    public static class Json
    {
        private const int Deepest = 64;

        /// <summary>Read one value. FormatException: it is none; the message says where.</summary>
        public static object Parse(string text)
        {
            var reader = new Reader(text);
            var value = reader.Value(0);
            reader.End();
            return value;
        }

        /// <summary>A value of the types above (any IDictionary with string keys, any IEnumerable, any number) as JSON.</summary>
        public static string Write(object value)
        {
            var text = new StringBuilder();
            Write(text, value);
            return text.ToString();
        }

        private static void Write(StringBuilder text, object value)
        {
            if (value == null) text.Append("null");
            else if (value is bool) text.Append((bool)value ? "true" : "false");
            else if (value is string) Quote(text, (string)value);
            else if (value is double) text.Append(((double)value).ToString("R", CultureInfo.InvariantCulture));
            else if (value is IDictionary)
            {
                text.Append('{');
                foreach (DictionaryEntry member in (IDictionary)value)
                {
                    if (text[text.Length - 1] != '{') text.Append(',');
                    Quote(text, (string)member.Key);
                    text.Append(':');
                    Write(text, member.Value);
                }
                text.Append('}');
            }
            else if (value is IEnumerable)
            {
                text.Append('[');
                foreach (var item in (IEnumerable)value)
                {
                    if (text[text.Length - 1] != '[') text.Append(',');
                    Write(text, item);
                }
                text.Append(']');
            }
            else text.Append(Convert.ToString(value, CultureInfo.InvariantCulture));
        }

        private static void Quote(StringBuilder text, string s)
        {
            text.Append('"');
            foreach (var c in s)
            {
                if (c == '"' || c == '\\') text.Append('\\').Append(c);
                else if (c < ' ' || c > '~') text.Append("\\u").Append(((int)c).ToString("x4"));
                else text.Append(c);
            }
            text.Append('"');
        }

        private sealed class Reader
        {
            private readonly string _text;
            private int _at;

            public Reader(string text) { _text = text; }

            public object Value(int depth)
            {
                if (depth > Deepest) throw Wrong("nested too deeply");
                switch (Next())
                {
                    case '{': return Members(depth);
                    case '[': return Items(depth);
                    case '"': return String();
                    case 't': return Word("true", true);
                    case 'f': return Word("false", false);
                    case 'n': return Word("null", null);
                    default: return Number();
                }
            }

            public void End()
            {
                Space();
                if (_at < _text.Length) throw Wrong("more than one value");
            }

            private Dictionary<string, object> Members(int depth)
            {
                var members = new Dictionary<string, object>();
                _at++;
                if (Next() == '}') { _at++; return members; }
                while (true)
                {
                    if (Next() != '"') throw Wrong("a name was expected");
                    var name = String();
                    if (Next() != ':') throw Wrong("a colon was expected");
                    _at++;
                    members[name] = Value(depth + 1);
                    if (Ends('}')) return members;
                }
            }

            private List<object> Items(int depth)
            {
                var items = new List<object>();
                _at++;
                if (Next() == ']') { _at++; return items; }
                while (true)
                {
                    items.Add(Value(depth + 1));
                    if (Ends(']')) return items;
                }
            }

            /// <summary>Behind a member or an item: the end, or a comma.</summary>
            private bool Ends(char end)
            {
                var c = Next();
                if (c != end && c != ',') throw Wrong("a comma was expected");
                _at++;
                return c == end;
            }

            private string String()
            {
                var text = new StringBuilder();
                for (_at++; ; _at++)
                {
                    var c = Here();
                    if (c == '"') { _at++; return text.ToString(); }
                    if (c < ' ') throw Wrong("a control character in a text");
                    if (c != '\\') { text.Append(c); continue; }
                    _at++;
                    var place = "\"\\/bfnrt".IndexOf(Here());
                    if (place >= 0) text.Append("\"\\/\b\f\n\r\t"[place]);
                    else if (Here() == 'u') text.Append(Unicode());
                    else throw Wrong("an unknown escape");
                }
            }

            private char Unicode()
            {
                if (_at + 4 >= _text.Length || !int.TryParse(_text.Substring(_at + 1, 4), NumberStyles.AllowHexSpecifier,
                                                             CultureInfo.InvariantCulture, out var code)) throw Wrong("four hexadecimal digits were expected");
                _at += 4;
                return (char)code;
            }

            private object Number()
            {
                var begin = _at;
                if (Is('-')) _at++;
                if (Is('0')) _at++;
                else Digits();
                if (Is('.')) { _at++; Digits(); }
                if (Is('e') || Is('E'))
                {
                    _at++;
                    if (Is('+') || Is('-')) _at++;
                    Digits();
                }
                return double.Parse(_text.Substring(begin, _at - begin), NumberStyles.Float, CultureInfo.InvariantCulture);
            }

            private void Digits()
            {
                var begin = _at;
                while (_at < _text.Length && _text[_at] >= '0' && _text[_at] <= '9') _at++;
                if (_at == begin) throw Wrong("a value was expected");
            }

            private object Word(string word, object value)
            {
                if (string.CompareOrdinal(_text, _at, word, 0, word.Length) != 0) throw Wrong("a value was expected");
                _at += word.Length;
                return value;
            }

            private bool Is(char c) { return _at < _text.Length && _text[_at] == c; }

            private char Here()
            {
                if (_at >= _text.Length) throw Wrong("it ends too early");
                return _text[_at];
            }

            private char Next()
            {
                Space();
                return Here();
            }

            private void Space()
            {
                while (_at < _text.Length && " \t\r\n".IndexOf(_text[_at]) >= 0) _at++;
            }

            private FormatException Wrong(string what) { return new FormatException("no JSON: " + what + " at character " + _at); }
        }
    }
}
