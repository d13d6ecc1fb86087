"""The language model as a judge, and the limits of a request to it."""
