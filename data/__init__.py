"""Tools for training data, run from the repository's root.

`python -m data.check ROOT` audits a folder in the published layout;
`python -m data.teach` keeps the image keypoints of its frames with it;
`python -m data.lrw`, `data.mead` and `data.voxceleb` pack one into ArrayRecord.
"""
