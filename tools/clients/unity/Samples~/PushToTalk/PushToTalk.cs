using UnityEngine;
using Voxkit;

/// <summary>Beside a VoxkitListener: hold V and speak.</summary>
public class PushToTalk : MonoBehaviour
{
    public VoxkitListener listener;
    public KeyCode key = KeyCode.V;

    private void Start()
    {
        listener.onFinal.AddListener(text => Debug.Log("said: " + text));
    }

    private void Update()
    {
        if (Input.GetKeyDown(key)) listener.Press();
        if (Input.GetKeyUp(key)) listener.Release();
    }
}
