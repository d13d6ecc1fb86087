"""How long a run takes: planned from measured rates and token counts, corrected by what is seen."""
