"""MEAD: actors who speak with eight emotions at three levels."""
