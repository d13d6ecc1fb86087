"""The policy: base model with adapters, its attention over packs, and its log-probabilities."""
