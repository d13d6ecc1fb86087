"""The adapter's way out: exported to the engine, written to files, merged into a model."""
