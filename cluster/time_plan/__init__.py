"""Planned duration of a run: from measured rates and token counts, corrected by what is seen."""
