"""LightningModules, one folder per method."""
