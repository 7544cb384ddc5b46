using System;
using Voxkit;

/// <summary>A JSON value in each line → the same, written anew; "error" where it is none.</summary>
internal static class JsonEcho
{
    private static void Main()
    {
        for (string line; (line = Console.ReadLine()) != null;)
        {
            try { Console.WriteLine(Json.Write(Json.Parse(line))); }
            catch (FormatException) { Console.WriteLine("error"); }
        }
    }
}
