"""Photographs as training video: the head model fitted to portraits, which then talk.

portrait        the photograph: its face found, cropped, cut out from what is behind
fit             shape, expression and pose of the head model that match its landmarks
texture         where each vertex takes its pixels from, and what it has where there are none
sitter          the person in the photograph in any expression and pose
compose         the compiled loop that joins backdrop, surroundings of the face, and face
"""
