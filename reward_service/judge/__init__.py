"""The language model as a judge, and the bounds of what it is asked."""
