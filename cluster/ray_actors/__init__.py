"""Ray: the cluster, the actors on it, and the handles and pools that call them."""
