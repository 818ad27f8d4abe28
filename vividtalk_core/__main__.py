"""`python -m vividtalk_core`, and `torchrun -m vividtalk_core`."""

import sys

from .cli.command import main

if __name__ == "__main__":
    sys.exit(main())
