"""nextword: a reproducible laboratory for classical language models."""

import os

# Torch's threads wait for their next operation in a busy loop, on the cores on which ours (nextword.models.matmul) have
# their turn meanwhile. GNU OpenMP reads this as torch is loaded, so it stands before any import; the user's own setting
# prevails. With two threads a training step takes 15 to 18% less (benchmarks/RECORD.md).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
