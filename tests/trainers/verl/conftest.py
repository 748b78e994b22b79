"""verl pins its dependencies: these tests have an environment of their own (`make test-verl`)."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
OURS = ["test_hooks.py", "test_ray.py", "test_driver.py", "test_rows.py", "test_trainer.py"]
collect_ignore = [] if find_spec("verl") else OURS


@pytest.fixture(scope="session")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and prompts."""
    from harness import make_assets

    folder = tmp_path_factory.mktemp("assets")
    make_assets(folder)
    return folder
