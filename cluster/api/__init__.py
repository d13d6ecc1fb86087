"""What `import floe` offers: training, scoring, evaluating and asking from Python, in the caller's own process."""
