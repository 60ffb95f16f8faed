"""Training of the neural models."""
