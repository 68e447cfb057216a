"""Makes what comes with the package: `python -m data.synthetic.bundle --model DIR --clips ROOT`.

The model's networks with half the digits, its emotion bank, and a portrait, a voice and a
motion of the head of people that the model has not been trained on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.synthetic import camera, cast, movement
from data.synthetic.clip import record_clip
from data.synthetic.controls import Control
from data.synthetic.renderer import Renderer, add_head_model_flag
from data.synthetic.script import Take
from eamm_jax import bundled
from eamm_jax.cli.tool import OneLineParser, run
from eamm_jax.constants import FRAME_RATE, SAMPLE_RATE
from eamm_jax.errors import UserError

NETWORKS = ("kp_detector", "generator", "audio_feature", "kp_detector_a", "emo_detector")

SENTENCE = (
    "Hello! I am not a real person, and I have never seen you before. "
    "But give me a voice and a feeling, and I will talk to you."
)
VOICE, RATE, PITCH = "en-us+f3", 165, 55

PORTRAIT_PIXELS = 256
STILL = (0.0, 2.0, 0.0)
"""Yaw, pitch and roll of the portrait, degrees; its motion begins and ends there."""

POSE_SECONDS = 30
SPEECH_BIT_RATE = 48_000
SPEECH_PAUSE = 0.35  # seconds of quiet before and after


def main(argv: Sequence[str] | None = None) -> None:
    """Makes the bundle as the flags say."""
    parser = OneLineParser(prog="python -m data.synthetic.bundle", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="`model/` of the last stage")
    parser.add_argument("--clips", type=Path, required=True, help="clips for the emotion bank")
    parser.add_argument("--output", type=Path, default=bundled.MODEL.parent, help="folder")
    parser.add_argument("--seed", type=int, default=0, help="of the cast the model was trained on")
    parser.add_argument(
        "--person", type=int, default=209, help="number of the portrait's person, held out"
    )
    add_head_model_flag(parser)
    flags = parser.parse_args(argv)
    run(lambda: _make(flags))


def _make(flags: argparse.Namespace) -> None:
    from eamm_jax.checkpoint import load_networks, load_provenance, save_networks
    from eamm_jax.cli import emotion_bank
    from eamm_jax.io.image import write_png

    person = cast.person(flags.seed, flags.person)
    if not person.held_out:
        raise UserError(f"--person {flags.person} is not held out; take another")
    picture = portrait(flags.seed, flags.person, Renderer(flags.head_model))
    config, variables = load_networks(flags.model, NETWORKS)
    flags.output.mkdir(parents=True, exist_ok=True)
    target = flags.output / bundled.MODEL.name
    provenance = load_provenance(flags.model) | {"license": "mit", "card": "MODEL_CARD.md"}
    save_networks(target, config, variables, provenance=provenance, overwrite=True, dtype="float16")
    emotion_bank.make(flags.clips, target, clips_each=12)
    write_png(flags.output / bundled.PORTRAIT.name, picture)
    write_speech(flags.output / bundled.SPEECH.name)
    np.save(flags.output / bundled.POSE.name, gentle_motion(flags.seed))
    size = sum(path.stat().st_size for path in flags.output.rglob("*") if path.is_file())
    print(f"{flags.output}: {size / 1e6:.1f} MB")


def portrait(seed: int, number: int, renderer: Renderer) -> np.ndarray:
    """A person who faces the viewer, eyes open and mouth closed."""
    clip = record_clip(seed, Take(number, "neutral", 1, 1), renderer)
    rows = clip.acting.performance
    away = np.abs(rows[:, [Control.GAZE_X, Control.GAZE_Y, Control.BLINK]]).sum(axis=1)
    n = int(np.argmin(away + 40 * clip.mouth_opening()))
    return clip.actor.picture(rows[n], camera.held(*STILL), PORTRAIT_PIXELS, n)


def gentle_motion(seed: int) -> np.ndarray:
    """A head held straight that moves as people's do when they talk, (t, 7)."""
    rng = np.random.default_rng(seed)
    count = POSE_SECONDS * FRAME_RATE
    sway = [movement.smooth_noise(rng, count, seconds) for seconds in (1.6, 1.4, 2.0)]
    angles = np.stack(sway, axis=1) * (2.6, 1.6, 1.2)
    # It begins and ends where a still portrait is, so that it can be repeated.
    fade = np.clip(np.minimum(np.arange(count), np.arange(count)[::-1]) / FRAME_RATE, 0, 1)
    angles = STILL + angles * fade[:, None]
    poses = [camera.held(*row) for row in angles]
    return movement.pose_rows(poses).astype(np.float32)


def write_speech(
    path: Path, text: str = SENTENCE, voice: str = VOICE, rate: int = RATE, pitch: int = PITCH
) -> None:
    """A sentence, spoken, as an mp3."""
    import av

    from eamm_jax.io.speech import synthesise

    quiet = np.zeros(int(SPEECH_PAUSE * SAMPLE_RATE), np.float32)
    spoken = synthesise(text, voice, rate=rate, pitch=pitch).samples
    samples = np.concatenate([quiet, 0.9 * spoken / np.abs(spoken).max(), quiet])
    with av.open(str(path), "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate = SPEECH_BIT_RATE
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


if __name__ == "__main__":
    main()
