"""`make prove-gpu`: checks of the GPU's paths that a CPU can't make, in twelve parts, each with its figures and
limits.
"""
