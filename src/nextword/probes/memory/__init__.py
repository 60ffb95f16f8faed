"""Memory tasks: which networks can learn to remember for how long, and how far their gradients reach."""

from nextword.probes.memory.summary import memory_tasks

__all__ = ["memory_tasks"]
