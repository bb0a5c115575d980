"""Rounded inner products of a block, and how far they can be from the exact ones.

With |x| a length, x~ the vector in the product's own numbers, and g = D u / (1 - D u), u = 2^-24, for sums in
float32 (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1):

    |computed - exact| <= |q~ - q| |d~| + |q| |d~ - d| + g |q~| |d~|  (+ half a place of a bf16 result)

The first two terms are 0 in float32. In bf16 they are some 0.004 for vectors of length 1, on processors with
bf16 instructions at a quarter to an eighth of the time.
"""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from codiemb.errors import UserError
from codiemb.mining.scores import Embeddings, lengths

_UNIT = 2.0**-24  # rounding of float32
_LONGEST = 2.0**60  # a product of two is still a number in float32
_RESULT_PLACES = {torch.float32: 0.0, torch.bfloat16: 2.0**-8}  # of a result, beyond that of the sum


@dataclass(frozen=True)
class Extent:
    """Lengths of vectors, and of what rounding takes from them; of each, or the greatest of many."""

    length: Float64[np.ndarray, " *b"] | np.float64
    rounding: Float64[np.ndarray, " *b"] | np.float64


@dataclass(frozen=True)
class Product:
    """Matrix products in one kind of numbers."""

    dtype: torch.dtype

    def room(self, k: int) -> int:
        """Places for the best k and for what cannot be told apart from the k-th; too few only cost time."""
        return k + 16 + k // 8 if self.dtype == torch.float32 else 2 * k + 64

    def operand(self, embedding_nD: Embeddings, device: torch.device) -> Float[Tensor, "n D"]:
        """A block in these numbers on the device; without a copy where it is that already."""
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message="The given NumPy array is not writable"
            )  # nobody writes
            block = torch.from_numpy(np.ascontiguousarray(embedding_nD))
        return block.to(device).to(self.dtype)

    def extent(self, embedding_nD: Embeddings) -> Extent:
        """Of every vector of a block."""
        length_n = lengths(embedding_nD)
        if self.dtype == torch.float32:
            return Extent(length_n, np.zeros(len(length_n)))
        exact = self.operand(embedding_nD, torch.device("cpu")).float().numpy()
        with np.errstate(invalid="ignore"):  # infinity less infinity; `finite` names it
            return Extent(length_n, lengths(embedding_nD.astype(np.float32) - exact))

    def floor(
        self, kth_b: Float32[np.ndarray, " b"], query: Extent, longest: Extent, width: int
    ) -> Float32[np.ndarray, " b"]:
        """What a document's computed score must reach for it to be among the exact best k.

        Args:
            kth_b: the k-th computed score of each query.
            query: of each query.
            longest: the greatest of all documents.
            width: D.
        """
        rounded_query, rounded_document = query.length + query.rounding, longest.length + longest.rounding
        sums = width * _UNIT / (1 - width * _UNIT) * rounded_query * rounded_document
        tiny = width * 2.0**-126  # what bf16 instructions take for 0
        error_b = query.rounding * rounded_document + query.length * longest.rounding + sums + tiny
        last_b = 2 * _UNIT * query.length * longest.length  # two exact scores are rounded to float32 as well
        kth_b = kth_b.astype(np.float64)
        place = 2.1 * _RESULT_PLACES[self.dtype]
        low_b = kth_b - 2 * error_b - last_b - place * np.abs(kth_b)
        low_b = kth_b - 2 * error_b - last_b - place * np.maximum(np.abs(kth_b), np.abs(low_b))
        return np.nextafter(low_b.astype(np.float32), np.float32(-np.inf))

    def scores(
        self, query_bD: Embeddings, document_ND: Embeddings, step: int, device: torch.device
    ) -> Iterator[tuple[int, Float[Tensor, "b _"]]]:
        """Scores of a block of documents after the other; each overwrites the one before."""
        query = self.operand(query_bD, device)
        buffer = torch.empty(len(query) * min(step, len(document_ND)), dtype=self.dtype, device=device)
        for start in range(0, len(document_ND), step):
            document_nD = self.operand(document_ND[start : start + step], device)
            out_bn = buffer[: len(query) * len(document_nD)].view(len(query), len(document_nD))
            yield start, torch.mm(query, document_nD.T, out=out_bn)


def products(device: torch.device) -> list[Product]:
    """What is worth trying on a device, the fastest first. The last one is float32."""
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    has_bf16 = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    if device.type == "cpu" and has_bf16 and torch.backends.mkldnn.is_available():
        return [Product(torch.bfloat16), Product(torch.float32)]
    return [Product(torch.float32)]


def greatest(product: Product, document_ND: Embeddings, step: int) -> Extent:
    """The greatest extent of all documents.

    Raises:
        UserError: an embedding is not finite.
    """
    blocks = (
        finite(product.extent(document_ND[start : start + step]), start, "document")
        for start in range(0, len(document_ND), step)
    )
    length, rounding = zip(*((block.length.max(), block.rounding.max()) for block in blocks), strict=True)
    return Extent(np.max(length), np.max(rounding))


def finite(extent: Extent, start: int, what: str) -> Extent:
    """The same.

    Raises:
        UserError: an embedding is not finite, or too long for a product; `start` is the number of the first.
    """
    if bad := [start + int(i) for i in np.flatnonzero(~(extent.length < _LONGEST))[:20]]:
        raise UserError(
            f"the {what} embeddings in rows {', '.join(map(str, bad))} hold NaN, infinity or huge numbers; "
            "check the weights (did training diverge?) and the precision, and encode again"
        )
    return extent
