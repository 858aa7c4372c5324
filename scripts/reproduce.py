"""`python scripts/reproduce.py ...` is `malfl reproduce ...`."""

import sys

from malfl_algos.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["reproduce", *sys.argv[1:]]))
