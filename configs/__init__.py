"""The configuration of a run: its schema, the files that give it, and the configurations that floe ships."""
