"""How the service behaves under load, and under clients that behave badly: `load`, `soak`, `replicas`."""
