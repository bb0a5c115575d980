"""The hash of weights: every number counts but the row of a padding token, which loading sets to zero."""

import torch
from torch import nn

from codiemb.encoder.fingerprint import module_identity


def identity(table: torch.Tensor, padding: int | None) -> str:
    rows, width = table.shape
    model = nn.Sequential(nn.Embedding(rows, width, padding_idx=padding), nn.Linear(width, 2))
    with torch.no_grad():
        model[0].weight.copy_(table)
        model[1].weight.fill_(0.5)
        model[1].bias.zero_()
    weights: str = module_identity(model)["weights"]
    return weights


def test_the_row_of_the_padding_token_counts_as_zero_and_no_other_does() -> None:
    table = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    for row in (0, 2, 4):
        loaded = table.clone()
        loaded[row] = 0
        assert identity(table, row) == identity(loaded, row) == identity(loaded, None)
        assert identity(table, None) != identity(loaded, None)
        assert identity(table, (row + 1) % 5) != identity(loaded, (row + 1) % 5)
