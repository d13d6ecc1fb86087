"""The learner: packs of groups, the policy, the GRPO loss, DeepSpeed, and the adapter's way out."""
