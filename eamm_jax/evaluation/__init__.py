"""Measures talking faces against the truth, and against baselines in the same table.

What is compared is a *case*: true frames, the portrait they are animated from, and, where the
truth is known, landmarks and emotion (`cases`). Several *contestants* make frames for it: the
model, and what it should be better or worse than (`contestants`). Metrics are pure functions of
arrays (`pictures`, `landmarks`, `sharpness`, `likeness`); landmarks and emotion of frames are
seen by a *reader* (`readers`): a small network trained on drawn faces (`face_reader`), or dlib
for photographs. `measurement` puts the metrics together for a clip, `report` the clips to a
table, JSON and pictures. docs/evaluation.md defines every number.

Frames are uint8 RGB, (t, h, w, 3), as they are seen; metrics compute in double precision.
"""
