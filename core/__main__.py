"""`python -m hspace`."""

import sys

from .cli import main

sys.exit(main())
