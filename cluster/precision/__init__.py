"""The precision that learner and engine compute in, decided once from the processor or card and a measurement."""
