"""All benchmarks in their default sizes: ``make bench``."""

import subprocess
import sys

for name, *arguments in (["engine"], ["memory"], ["training"], ["ngram"], ["text", "--megabytes", "10"],
                         ["vocabulary", "--tokens", "10000000"]):  # fmt: skip
    print(f"\n== python -m benchmarks.{name} {' '.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments], check=True)
