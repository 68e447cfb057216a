"""`train.py` with the plain form of every operation, as GPUs and TPUs get it, on a CPU too."""

from typing import Any

import jax


def plain(*args: Any, default: Any, **platforms: Any) -> Any:
    return default(*args)


if __name__ == "__main__":
    jax.lax.platform_dependent = plain

    from eamm_jax.cli.train import main

    main()
