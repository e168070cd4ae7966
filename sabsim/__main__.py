"""`python -m sabsim` is `sabsim`."""

import sys

from sabsim.cli import main

if __name__ == "__main__":
    sys.exit(main())
