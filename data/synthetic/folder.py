"""The data set that is never written: clips are recorded and frames rendered when asked for.

It looks like a folder in the published layout to the input pipeline (`ClipFolder`), so that
Grain can read it like any other source, shuffled and resumable: clip number i is the same in
every process and every run.
"""

from __future__ import annotations

import io
from functools import lru_cache, partial

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from data.synthetic import cast
from data.synthetic.clip import Clip, record_clip
from data.synthetic.renderer import HEADS, Renderer
from data.synthetic.script import Take, takes_of
from eamm_jax.input_pipeline import clips
from eamm_jax.input_pipeline.clips import ClipName


def encode_png(frame: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """A PNG of a frame; quick rather than small."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG", compress_level=2)
    return buffer.getvalue()


class SyntheticFolder:
    """The clips of a cast, in the order of a written data set.

    Attributes:
        names: identity and clip of each.
    """

    def __init__(
        self,
        identities: int,
        seed: int,
        *,
        size: int,
        takes: int = 1,
        first: int = 0,
        renderer: Renderer = HEADS,
    ):
        """Lists the clips; records none.

        Args:
            identities: how many people.
            seed: of everything; the same seed gives the same data set.
            size: rows and columns of the frames.
            takes: recordings of each emotion at each level.
            first: number of the first person.
            renderer: what people are rendered from.
        """
        self._seed = seed
        self._size = size
        self._renderer = renderer
        everything = [
            (ClipName(cast.name_of(number), take.clip_name), take)
            for number in range(first, first + identities)
            for take in takes_of(number, takes)
        ]
        everything.sort(key=lambda item: item[0])
        self.names = [name for name, _ in everything]
        self._takes = [take for _, take in everything]

    def __len__(self) -> int:
        return len(self._takes)

    def __getitem__(self, index: int) -> Clip:
        """Clip number `index`, with its truth.

        Raises:
            IndexError: there is no such clip.
            UserError: the extra `speech` is not installed.
        """
        return _recorded(self._seed, self._takes[index], self._renderer)

    def open(self, index: int) -> clips.Clip:
        """Clip number `index` as the input pipeline wants it; frames are rendered one by one."""
        clip = self[index]
        return clips.Clip(
            clip.num_frames,
            partial(_encoded_frame, clip, self._size),
            clip.pose(),
            clip.mfcc(),
            np.concatenate([clip.landmarks(), clip.pupils()], axis=1),
        )


@lru_cache(maxsize=8)
def _recorded(seed: int, take: Take, renderer: Renderer) -> Clip:
    # A reader that looks for a portrait and then for frames opens a clip more than once.
    return record_clip(seed, take, renderer)


def _encoded_frame(clip: Clip, size: int, n: int) -> bytes:
    return encode_png(clip.frame(n, size))
