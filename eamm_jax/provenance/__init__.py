"""What a video says about itself, and reading it: mark, metadata, signed credentials."""
