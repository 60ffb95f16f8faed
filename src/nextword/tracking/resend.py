"""Send the tracking store what it missed: ``python -m nextword.tracking.resend`` in the project folder.

What a stage logs while the store (``mlruns``, or the server in ``MLFLOW_TRACKING_URI``) is down waits in
``work/tracking``. The next stage sends it; this does so without one. Exits with 1 where something is left.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys

from nextword.config import TrackingParams
from nextword.tracking.link import WAITING, Link


def main() -> None:
    """Entry point."""
    argparse.ArgumentParser(
        prog="python -m nextword.tracking.resend", description="Send the tracking store what it missed"
    ).parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    link = Link(TrackingParams().experiment)
    try:
        sent, left = link.resend(math.inf)
    finally:
        link.close()
    print(f"{sent} entries sent")
    for store, count in left.items():
        print(f"{count} entries for {store} are left in {WAITING}", file=sys.stderr)
    sys.exit(1 if left else 0)


if __name__ == "__main__":
    main()
