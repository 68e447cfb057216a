"""Rendered people: heads from a morphable model, with hair, light and ground truth."""
