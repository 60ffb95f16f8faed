"""All benchmarks in their default sizes: ``make bench``. Engines, training and serving on a GPU where there is one."""

import subprocess
import sys

for name, *arguments in (["engine"], ["memory"], ["training"], ["ngram"], ["text", "--megabytes", "10"],
                         ["vocabulary", "--tokens", "10000000"], ["serving"]):  # fmt: skip
    print(f"\n== python -m benchmarks.{name} {' '.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments], check=True)
