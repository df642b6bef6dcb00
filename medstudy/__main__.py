"""`python -m medstudy`."""

import sys

from medstudy.cli import main

sys.exit(main())
