"""`python -m data.voxceleb`: packs a folder of voxceleb clips."""

from data.pack import main

if __name__ == "__main__":
    main("voxceleb")
