"""A benchmark table: data sets by policies, a saved evaluation in each cell, filled and continued cell by cell."""
