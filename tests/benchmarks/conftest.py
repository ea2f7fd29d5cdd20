"""The benchmarks are no part of the installed package: the tests reach them from the repository's root."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
