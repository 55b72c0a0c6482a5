"""The backend process: a gateway that never imports torch, and a worker that renders."""
