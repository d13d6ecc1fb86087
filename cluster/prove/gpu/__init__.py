"""`make prove-gpu`: what a CPU can't show of the GPU's paths, in twelve parts, each with its figures and limits."""
