"""``python -m asi_pa`` is the command ``asi-pa``."""

import sys

from asi_pa.cli import main

if __name__ == "__main__":
    sys.exit(main())
