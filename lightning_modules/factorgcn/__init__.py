"""One graph factored into several (Yang, Feng, Song, Wang, NeurIPS 2020, arXiv 2010.05421)."""
