"""Numbers and names that the whole system shares; importing them imports nothing else."""

FRAME_RATE = 25
"""Video frames per second (`docs/architecture.md` section 2)."""

SAMPLE_RATE = 16_000
"""Audio samples per second, mono (`docs/architecture.md` section 2)."""

EMOTIONS = ("angry", "contempt", "disgusted", "fear", "happy", "neutral", "sad", "surprised")
"""The eight emotions; a label's number is its index here."""

LEVELS = (1, 2, 3)
"""Intensities of an emotion in MEAD, from slight to strong."""

LAYOUTS = ("single", "side_by_side")
"""What a video shows: the animation, or source image, emotion video, neutral and emotion."""

LABEL_CORNERS = ("bottom_right", "bottom_left", "top_right", "top_left")
"""Where a visible label can stand."""

DTYPES = ("float32", "bfloat16")
"""What networks can compute in."""

CLIP_FRAMES = 16
"""Consecutive frames in a training clip (`docs/architecture.md` section 8)."""

AUDIO_WINDOW = (28, 12)
"""MFCC rows and columns that one video frame reads (`docs/architecture.md` section 6)."""

POSE_NUMBERS = 6
"""Yaw, pitch, roll (degrees), scale, tx, ty: what the networks see of a head pose."""

METRIC_NETWORKS = ("syncnet", "inception", "emotion_fan", "lpips_alex", "lpips_vgg")
"""Networks of other authors that only measure."""

NETWORKS = (
    *("kp_detector", "generator", "discriminator"),
    *("audio_feature", "kp_detector_a", "emo_detector", "vgg19", "head_pose", "vgg16"),
    *METRIC_NETWORKS,
)
"""The networks, by their published names, which are also ours. All but `head_pose` (3DDFA_V2's,
from other authors) and `METRIC_NETWORKS` are the fields of `models.Networks`. `vgg16` is that of
shift-tolerant LPIPS."""
