"""What goes out with an adapter: the model card, the licence of its base, and which adapter is meant."""
