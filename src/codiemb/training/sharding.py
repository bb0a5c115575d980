"""Weights spread over ranks: shard an encoder with FSDP2, and make any strategy's shards whole again."""

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from codiemb.distributed import rank
from codiemb.encoder import Encoder, ModelSpec, load_encoder
from codiemb.encoder.encoder import Backbone
from codiemb.encoder.head import LanguageHead


def shard(encoder: Encoder, head: LanguageHead | None, mesh: DeviceMesh) -> None:
    """FSDP2, in place: each transformer layer is one group, everything else (embeddings, norms) another.

    A group's weights are gathered before its forward and its backward pass and freed after them. The root is
    the encoder, not the backbone: it runs once a step, however many chunks it cuts the batch into. Starts
    from rank 0's weights, as DDP and DeepSpeed do: random ones may differ from rank to rank.

    The language-model head is a third group. Its loss reads the weights after its forward pass (and those of
    the token embedding, if the two are tied): they stay gathered until the backward pass is done.
    """
    for module in (encoder, *([head] if head else [])):
        for tensor in (*module.parameters(), *module.buffers()):
            dist.broadcast(tensor.detach(), src=0)
    for layer in transformer_layers(encoder.backbone):
        fully_shard(layer, mesh=mesh)
    fully_shard(encoder, mesh=mesh, reshard_after_forward=False)
    register_fsdp_forward_method(encoder, "token_states")
    if head is not None and list(head.parameters()):
        fully_shard(head, mesh=mesh, reshard_after_forward=False)


def transformer_layers(backbone: Backbone) -> list[nn.Module]:
    """The items of the one ModuleList that is as long as the configuration says the model is deep."""
    depth = backbone.config.num_hidden_layers
    lists = [m for m in backbone.modules() if isinstance(m, nn.ModuleList) and len(m) == depth]
    return list(lists[0]) if lists else []


def whole_encoder(encoder: Encoder, spec: ModelSpec, *, on_all_ranks: bool = False) -> Encoder:
    """A trained encoder with all its weights on rank 0, for export, or on all ranks, for evaluation.

    The encoder itself where no weight is sharded (DDP, ZeRO 1 and 2). Under FSDP2 and ZeRO 3 a rank builds
    it anew on the CPU and fills it one gathered tensor at a time; other ranks get their sharded one back.
    All ranks must call it. Gathering brings every tensor to all ranks in any case; each whole encoder takes
    room for the weights on its host.
    """
    if not has_sharded_weights(encoder):
        return encoder
    whole = load_encoder(spec) if on_all_ranks or rank() == 0 else None
    targets = {} if whole is None else dict(whole.named_parameters())
    for name, parameter in encoder.named_parameters():
        gathered = full_tensor(parameter)
        if whole is not None:
            targets[name].data.copy_(gathered)
    return whole or encoder


def full_tensor(parameter: nn.Parameter) -> Tensor:
    """A copy of a parameter in one piece, whoever holds its shards. All ranks must call it."""
    if isinstance(parameter, DTensor):
        return parameter.full_tensor().detach().clone()
    if not hasattr(parameter, "ds_id"):
        return parameter.detach().clone()
    import deepspeed  # optional, but there if a parameter is its

    with deepspeed.zero.GatheredParameters([parameter]):
        return parameter.detach().clone()


def has_sharded_weights(module: nn.Module) -> bool:
    """Whether this rank holds but a part of the weights (FSDP2, ZeRO 3), so that it cannot run them alone."""
    return any(isinstance(p, DTensor) or hasattr(p, "ds_id") for p in module.parameters())
