"""A fixed affine map as a module, so that what a closed-form row must keep is counted like everyone else's."""

from __future__ import annotations

from torch import Tensor

from otbench.recorded import Recorded


class AffineMap(Recorded):
    """x -> A x + b on flattened points; A and b are buffers, not parameters."""

    matrix: Tensor | None
    offset: Tensor

    def __init__(self, matrix: Tensor | None, offset: Tensor) -> None:
        """Hold the map.

        Args:
            matrix: A, shape (d, d); None for the constant map x -> b.
            offset: b, shape (d,), same dtype and device.
        """
        super().__init__()
        self.register_buffer("matrix", matrix)
        self.register_buffer("offset", offset)

    def forward(self, x: Tensor) -> Tensor:
        """Return the images of `x`, same shape (n, *shape) and dtype."""
        if self.matrix is None:
            return self.offset.to(x.dtype).expand(len(x), -1).reshape(x.shape).clone()
        return (x.flatten(1).to(self.offset.dtype) @ self.matrix.T + self.offset).to(x.dtype).reshape(x.shape)
