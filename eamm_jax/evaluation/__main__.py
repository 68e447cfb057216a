"""`python -m eamm_jax.evaluation`."""

from eamm_jax.cli.evaluate import main

if __name__ == "__main__":
    main()
