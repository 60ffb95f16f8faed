"""Evaluation of every model by one rule."""
