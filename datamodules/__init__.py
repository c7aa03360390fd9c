"""Data sets: fetch, verify, split and load. Nothing here knows of models or training."""
