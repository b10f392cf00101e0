"""``python -m lightning_dropout``: the same as the console script ``lightning-dropout``."""

import sys

from lightning_dropout.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
