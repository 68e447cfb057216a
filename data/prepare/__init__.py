"""Raw videos of LRW, MEAD and VoxCeleb into the published folder layout.

names   what a raw file is called, and what its clip is
clip    one video: frames, poses, sound
job     all of them: in parallel or by Beam, resumable, with a report
"""
