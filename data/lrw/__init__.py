"""Lip Reading in the Wild: 500 words, each spoken up to 1000 times, in clips of 29 frames."""
