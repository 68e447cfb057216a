"""`python -m data.mead`: packs a folder of mead clips."""

from data.pack import main

if __name__ == "__main__":
    main("mead")
