"""The page of one run, `floe report`: its contents, its figures, its document."""
