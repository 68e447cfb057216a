"""Records what the package `mediapipe` sees in NASA's portrait of Eileen Collins.

    python tests/faces/record_mediapipe.py face_landmarker.task

writes `mediapipe.npz` beside this file; run with mediapipe 1.2.3 and scikit-image installed. It
holds the 478 points (pixels, edges of the picture at 0), and the head's rotation.
"""

import sys
from pathlib import Path

import mediapipe
import numpy as np
from mediapipe.tasks.python import vision
from mediapipe.tasks.python.core.base_options import BaseOptions
from skimage import data

picture = data.astronaut()
options = vision.FaceLandmarkerOptions(
    base_options=BaseOptions(model_asset_path=sys.argv[1]),
    output_facial_transformation_matrixes=True,
)
with vision.FaceLandmarker.create_from_options(options) as landmarker:
    image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=picture)
    seen = landmarker.detect(image)
height, width = picture.shape[:2]
np.savez(
    Path(__file__).with_name("mediapipe.npz"),
    points=np.float32([(point.x * width, point.y * height) for point in seen.face_landmarks[0]]),
    rotation=np.float32(seen.facial_transformation_matrixes[0][:3, :3]),
)
