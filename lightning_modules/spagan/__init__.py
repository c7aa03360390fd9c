"""SPAGAN: shortest path graph attention (Yang et al., IJCAI 2019, arXiv 2101.03464)."""
