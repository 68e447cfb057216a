"""Converts raw videos of LRW, MEAD and VoxCeleb to the published folder layout.

names   names of raw files and of their clips
clip    one video: frames, poses, audio features
job     all videos: in parallel or with Beam, resumable, with a report
"""
