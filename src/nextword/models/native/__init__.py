"""Recurrent layers through C kernels that are derived from a cell's step and compiled on first use."""

from nextword.models.native.engine import compiled_scan, why_not

__all__ = ["compiled_scan", "why_not"]
