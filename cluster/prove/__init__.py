"""`make prove-24gb`: one whole step of the 3B shape within the memory of a 24 GB card, on CPU."""
