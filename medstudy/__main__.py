"""`python -m medstudy`."""

import sys

sys.modules.setdefault("rfc3987_syntax", None)  # jsonschema would build its grammar, most of a second at every start

from medstudy.cli import main  # noqa: E402

sys.exit(main())
