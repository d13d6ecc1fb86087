"""The reward service: runs SQL that a model wrote, contained, and says what it deserves."""
