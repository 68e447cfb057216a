"""Faces: found, aligned, tracked through videos, their pose estimated, pasted back.

detection       faces and their 68 landmarks in an image (dlib)
similarity      similarity transforms of the plane, and squares cut out by them
framing         where a face belongs in a crop
source          the source image
tracking        one face through the frames of a video
emotion_video   frames of an emotion video, aligned
head_pose       head poses of images and videos
pose_geometry   the camera behind a head pose
generic_face    3-D landmarks that poses are fitted to
idle            gentle motion of a head, and blinks
pasting         a generated face back in its photo
"""
