"""The health guard: detectors over the series of a run's steps, and what follows from their findings (pure)."""
