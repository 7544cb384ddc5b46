"""Live recognition: streams of audio (`stream`), who works on them (`streaming`, `segments`), who is let in (`sessions`), and the native
WebSocket over them (`listen`; docs/serving.md has its protocol)."""
