"""The GRPO loss and its parts: advantages, importance ratios, KL estimators, which groups count."""
