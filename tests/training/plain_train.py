"""`train.py` with the plain form of every operation, as GPUs and TPUs get it, on a CPU too."""

import jax

from benchmarks.layers import plain_form

if __name__ == "__main__":
    jax.lax.platform_dependent = plain_form

    from eamm_jax.cli.train import main

    main()
