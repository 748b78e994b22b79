"""`python -m gdro.trainers.verl`: whether verl has our trainer modes, and hooks that fit."""

import sys

from gdro.core.errors import UnsupportedError


def main() -> int:
    """Prints what was found; 1 where a training command would not work."""
    import verl
    from verl.trainer.ppo.v1 import get_trainer_cls

    from gdro.trainers.verl import MODES
    from gdro.trainers.verl.border import check_engine

    try:
        for mode in MODES:
            check_engine(get_trainer_cls(mode))
    except (UnsupportedError, ValueError) as error:
        print(f"gdro: {error}", file=sys.stderr)
        return 1
    print(f"verl {verl.__version__}: {', '.join(MODES)} are registered, and fit")
    return 0


if __name__ == "__main__":
    sys.exit(main())
