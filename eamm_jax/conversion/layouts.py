"""How PyTorch lays a tensor out, and how we do.

PyTorch puts channels first, we put them last: kernels are (out, in, height, width) there and
(height, width, in, out) here, and whatever is flattened from a map has another order, too.
Every layout is a pair of functions, one on shapes and one on arrays, and knows nothing of
networks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """As it is: biases, scales, statistics."""

    def shape(self, published: Shape) -> Shape:
        """Our shape for a published one."""
        return published

    def convert(self, array: np.ndarray) -> np.ndarray:
        """Our array for a published one; may be a view."""
        return array


@dataclass(frozen=True)
class Transposed(Layout):
    """Axes in another order.

    Attributes:
        axes: for each of our axes the published one.
    """

    axes: tuple[int, ...]

    def shape(self, published: Shape) -> Shape:
        """Our shape for a published one."""
        return tuple(published[axis] for axis in self.axes)

    def convert(self, array: np.ndarray) -> np.ndarray:
        """Our array for a published one; may be a view."""
        return array.transpose(self.axes)


@dataclass(frozen=True)
class TransposedConvolution(Layout):
    """(in, out, height, width) -> (height, width, in, out), turned by half a turn.

    The published layer correlates backwards, scattering each input over its kernel; ours
    correlates the input dilated with zeros, so that its kernel is the mirror image.
    """

    def shape(self, published: Shape) -> Shape:
        """Our shape for a published one."""
        n_in, n_out, height, width = published
        return height, width, n_in, n_out

    def convert(self, array: np.ndarray) -> np.ndarray:
        """Our array for a published one; may be a view."""
        return array[:, :, ::-1, ::-1].transpose(2, 3, 0, 1)


@dataclass(frozen=True)
class LinearOnMap(Layout):
    """A linear layer on a flattened map: (out, channels x height x width) -> (h w c, out).

    Attributes:
        channels, height, width: of the map.
    """

    channels: int
    height: int
    width: int

    def shape(self, published: Shape) -> Shape:
        """Our shape for a published one."""
        return published[::-1]

    def convert(self, array: np.ndarray) -> np.ndarray:
        """Our array for a published one; may be a view."""
        kernel = array.reshape(-1, self.channels, self.height, self.width)
        return kernel.transpose(2, 3, 1, 0).reshape(-1, array.shape[0])


@dataclass(frozen=True)
class FlattenedKernel(Layout):
    """A vector over a kernel's inputs: (channels x height x width) -> (h w c).

    Attributes:
        channels, height, width: of the kernel.
    """

    channels: int
    height: int
    width: int

    def convert(self, array: np.ndarray) -> np.ndarray:
        """Our array for a published one; may be a view."""
        vector = array.reshape(self.channels, self.height, self.width)
        return vector.transpose(1, 2, 0).reshape(-1)


AS_IS = Layout()
CONVOLUTION = Transposed((2, 3, 1, 0))
CONVOLUTION_1D = Transposed((2, 1, 0))
LINEAR = Transposed((1, 0))
TRANSPOSED_CONVOLUTION = TransposedConvolution()
