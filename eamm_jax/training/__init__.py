"""Training: losses, stages, the loop that runs them, and what it saves."""
