"""Where the Asyrp authors' files are: beside the tests; all that they published, where `ASYRP_FILES` says."""

import os
from pathlib import Path

ASYRP = Path(os.environ.get("ASYRP_FILES") or Path(__file__).parents[1] / "data" / "asyrp")
