"""VoxCeleb: celebrities in interviews; also the place for any other video of speakers."""
