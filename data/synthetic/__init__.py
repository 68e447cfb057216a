"""Talking, emotional faces with ground truth: the data set that the project renders itself."""
