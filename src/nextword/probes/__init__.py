"""Experiments on what the notes explain: gradients, memory, context, embeddings, windows and sparsity."""
