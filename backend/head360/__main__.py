"""``python -m head360``."""

import sys

from head360.cli import main

if __name__ == "__main__":
    sys.exit(main())
