"""Painting a face: each module lays one kind of thing over the picture."""
