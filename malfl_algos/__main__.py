"""`python -m malfl_algos` is the `malfl` command."""

import sys

from malfl_algos.cli.main import main

sys.exit(main())
