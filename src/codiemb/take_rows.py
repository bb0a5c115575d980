"""Rows of a tensor by their places, with a gradient that is the same to the bit in every run."""

from jaxtyping import Float, Int
from torch import Tensor


def take_rows(table_ND: Float[Tensor, "N D"], place_P: Int[Tensor, " P"]) -> Float[Tensor, "P D"]:
    """`table_ND[place_P]`; where a row is taken several times, its gradients are added in one order.

    torch has two ways, and each has one order on one kind of device alone. On CPU the gradient of an index
    adds atomically, in the order in which threads arrive (three copies of a row are enough to differ); that
    of `index_select` goes through the sorted places, and takes a tenth of the time. On CUDA the index sorts
    and `index_select` adds atomically.
    """
    return table_ND.index_select(0, place_P) if table_ND.device.type == "cpu" else table_ND[place_P]
