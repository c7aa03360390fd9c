"""Dashboards: what a run shows on them, and how it stays independent of them."""
