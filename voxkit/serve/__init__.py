"""Serving a checkpoint over HTTP: `create_app` makes the application, `Batcher` puts requests that come together into one batch."""
