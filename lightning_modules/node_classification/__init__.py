"""Networks and training of node classification on one full graph."""
