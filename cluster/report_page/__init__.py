"""The page of one run, `floe report`: what is on it, its figures, its document."""
