"""Configuration files: YAML 1.2, paths, complaints with line numbers."""
