"""`python -m eamm_jax.app`."""

from eamm_jax.cli.studio import main

if __name__ == "__main__":
    main()
