"""Parts that go with an exported adapter: the model card, the licence of its base, and the choice of the adapter."""
