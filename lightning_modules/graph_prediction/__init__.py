"""Prediction for many small graphs in mini-batches: what FactorGCN and its baselines share."""
