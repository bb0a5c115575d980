"""Encoding with weights in shards: every forward pass is one of all ranks."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32

from codiemb.distributed import max_over_ranks
from codiemb.encoder.encoder import Encoder
from codiemb.encoder.modes import encode_mode
from codiemb.text_encoder import Side
from codiemb.training.sharding import has_sharded_weights


class ShardedEncoder:
    """An Encoder whose weights no rank can run alone (FSDP2, ZeRO 3), as a TextEncoder that all ranks call.

    Each embeds texts of its own, or none. A pass gathers weights from all ranks, so all must make equally
    many: who has fewer runs its first texts again. Memory is that of a training step without its gradients;
    a whole encoder beside the optimizer's state, for an evaluation in the middle of training, may not fit.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    @torch.no_grad()
    def encode(
        self,
        texts: Sequence[str],
        *,
        instruction: str = "",
        side: Side | None = None,
        progress: bool = False,
    ) -> Float32[np.ndarray, "S D"]:
        """As `Encoder.encode`. All ranks must call it equally often."""
        packs = list(self._encoder.packs(texts or [""], instruction, side))
        out_SD = np.empty((max(1, len(texts)), self._encoder.backbone.config.hidden_size), dtype=np.float32)
        num_passes = max_over_ranks(len(packs), packs[0][1].input_ids_T.device)
        with encode_mode(self._encoder, self._encoder.encode_precision):
            for number in range(num_passes):
                rows, pack = packs[number if number < len(packs) else 0]
                out_SD[rows] = self._encoder(pack).last_SD.cpu().numpy()
        return out_SD[: len(texts)]


def runnable(encoder: Encoder) -> Encoder | ShardedEncoder:
    """The encoder as ranks can run it in the middle of training: alone, or, in shards, together."""
    return ShardedEncoder(encoder) if has_sharded_weights(encoder) else encoder
