"""`python -m data.synthetic.pack`: packs a folder that `python -m data.synthetic` wrote."""

from data.pack import main

if __name__ == "__main__":
    main("synthetic")
