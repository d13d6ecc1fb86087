"""The rollout engine: vLLM, its adapter slots and its shared prompts."""
