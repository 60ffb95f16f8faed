"""What each module measures is in RECORD.md."""

import nextword  # noqa: F401  before torch, for whose threads it has a setting
