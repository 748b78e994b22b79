"""tinker-cookbook is no dependency of the tests: without it there is nothing to collect here."""

import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
collect_ignore = [] if find_spec("tinker_cookbook") else ["test_tinker.py"]
