"""The reward service's speed, and what policies that cheat would earn."""
