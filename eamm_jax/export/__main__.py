"""`python -m eamm_jax.export`."""

from eamm_jax.cli.export import main

if __name__ == "__main__":
    main()
