"""Models behind an endpoint: asked over HTTP within limits, their answers kept, judged as a local policy's."""
