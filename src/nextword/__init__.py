"""nextword: a reproducible laboratory for classical language models."""
