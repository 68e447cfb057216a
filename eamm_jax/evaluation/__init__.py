"""Measures talking faces against ground truth and against baselines.

A *case* holds the ground-truth frames, the source image and, if known, landmarks and emotion
(`cases`). *Contestants* render frames for it: the model and its baselines (`contestants`). Metrics
are pure functions of arrays (`pictures`, `landmarks`, `sharpness`). A *reader* detects
landmarks and emotion (`readers`). `measurement` computes all metrics of a clip; `report` turns them
into a table, JSON and images. docs/evaluation.md defines every metric.

Frames are uint8 RGB, (t, h, w, 3); metrics are computed in float64.
"""
