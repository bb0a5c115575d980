"""AnglE: the order of graded pairs by the difference of their angles in complex space."""

from jaxtyping import Float
from torch import Tensor, nn

from codiemb.batch import EmbeddedBatch
from codiemb.losses.base import LossOutput, full_precision, require_positive
from codiemb.losses.graded import graded_list, wrong_order


class AnglE(nn.Module):
    """CoSENT on an angle instead of the cosine, whose gradient vanishes where texts are very close or far.

        z = q_1 + i q_2, w = d_1 + i d_2, the halves of an embedding being real and imaginary parts
        s = | sum over k of Re(z_k conj(w_k)) + Im(z_k conj(w_k)) |
        L = log(1 + sum over y_i > y_j of exp((s_j - s_i) / temperature))

    This is the angle term alone, as the authors' code computes it for normalised embeddings; their objective
    adds it to CoSENT at temperature 0.05, and to InfoNCE over equivalent pairs. The width must be even.
    Source: arXiv 2309.12871.

    Args:
        temperature: divides differences of angles.
    """

    def __init__(self, temperature: float | int = 1.0) -> None:
        super().__init__()
        self.temperature = require_positive("temperature", temperature)

    def check_width(self, width: int) -> None:
        """Raises ValueError for an odd width."""
        if width % 2:
            raise ValueError(f"AnglE halves embeddings: width {width} is odd")

    @full_precision
    def forward(self, batch: EmbeddedBatch) -> LossOutput:
        """The same value on every rank."""
        self.check_width(batch.query_BD.shape[1])
        return LossOutput(wrong_order(*graded_list(batch, _angle), self.temperature), {})


def _angle(q_nD: Float[Tensor, "n D"], d_nD: Float[Tensor, "n D"]) -> Float[Tensor, " n"]:
    (a, b), (c, d) = q_nD.chunk(2, dim=1), d_nD.chunk(2, dim=1)
    return (a * c + b * d + b * c - a * d).sum(dim=1).abs()
