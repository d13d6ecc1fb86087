"""Training of the network behind the graph reward: pairs of queries made from golds, and the fit."""
