"""Talking, emotional faces drawn with ground truth: the data set that the project brings along."""
