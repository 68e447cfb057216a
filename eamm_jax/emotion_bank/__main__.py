"""`python -m eamm_jax.emotion_bank`."""

from eamm_jax.cli.emotion_bank import main

if __name__ == "__main__":
    main()
