"""The learner's speed and memory against other ways."""
