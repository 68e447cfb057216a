"""Faces: found, aligned, tracked through videos, their pose estimated, pasted back.

face            a face, and what finds it
detection       which of these finds faces here
mediapipe_finder  by the networks of MediaPipe
dlib_finder     by dlib
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
