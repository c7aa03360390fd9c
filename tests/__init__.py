"""A package, since installed ones bring a `tests` of their own, which would win over a bare folder."""
