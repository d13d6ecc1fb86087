"""Measurements of floe against its own limits and other systems; no test and no run needs them."""
