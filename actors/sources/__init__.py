"""The questions and databases of a run, where a user's own code gives them too."""
