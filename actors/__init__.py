"""Questions, databases and prompts, and the rollout actor that generates with vLLM."""
