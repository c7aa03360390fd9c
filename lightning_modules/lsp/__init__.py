"""LSP: distilling graph networks by the local structure of their embeddings (arXiv 2003.10477)."""
