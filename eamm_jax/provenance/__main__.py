"""`python -m eamm_jax.provenance verify FILE`."""

from eamm_jax.cli.verify import main

if __name__ == "__main__":
    main()
