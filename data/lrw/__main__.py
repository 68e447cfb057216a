"""`python -m data.lrw`: packs a folder of lrw clips."""

from data.pack import main

if __name__ == "__main__":
    main("lrw")
