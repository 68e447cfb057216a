"""`python -m eamm_jax.checkpoint`."""

from eamm_jax.cli.checkpoint import main

if __name__ == "__main__":
    main()
