"""Cross-entropy over the vocabulary for language-model batches, in chunks of tokens: never P x V at once."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from codiemb.batch import TokenStates
from codiemb.distributed import sum_over_ranks, world_size
from codiemb.losses.base import LossOutput, require_count


class TokenPrediction(nn.Module):
    """Mean cross-entropy of the predicted tokens of a global batch.

        L = (1/N) sum over predicted tokens p of  logsumexp_v(logit_pv) - logit_p,target(p)
        logit_pv = <state_p, head_v> + bias_v

    N counts the predicted tokens of all ranks and all accumulated micro-batches of the optimizer step. Ranks
    hold different numbers of them, so a micro-batch's value is its sum times (ranks x micro-batches) / N: the
    mean over ranks and micro-batches, which the trainer takes, is L. Without a target it is a zero with a
    graph.

    Causal next-token prediction predicts every token that has one before it; masked next-token prediction
    (MNTP) the masked ones, each from the state one place before it, in a bidirectional model. Which, is the
    batch's business. Source of MNTP: LLM2Vec, arXiv 2404.05961.

    Args:
        chunk_rows: tokens whose logits are held at once; memory is 2 x chunk_rows x V.
    """

    def __init__(self, chunk_rows: int = 512) -> None:
        super().__init__()
        self.chunk_rows = require_count("chunk_rows", chunk_rows)

    def forward(self, batch: TokenStates) -> LossOutput:
        """The loss of this rank's predicted tokens, with perplexity and accuracy over all ranks."""
        device = batch.state_PD.device.type
        # the head's product runs in the trainer's precision, as in every language model; softmax in fp32
        dtype = torch.promote_types(batch.state_PD.dtype, batch.head_VD.dtype)
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            total, num_correct = _SummedCrossEntropy.apply(
                batch.state_PD.to(dtype),
                batch.head_VD.to(dtype),
                batch.bias_V,
                batch.target_P,
                self.chunk_rows,
            )
            counts = total.new_tensor([batch.mean_targets, len(batch.target_P)])
            sums = sum_over_ranks(torch.stack([*counts, total.detach(), num_correct]))
            value = total * (world_size() / sums[0].clamp_min(1e-9))
        num_targets = sums[1].clamp_min(1)
        cross_entropy = sums[2] / num_targets
        logs = {
            "perplexity": cross_entropy.exp(),
            "bits_per_token": cross_entropy / math.log(2),
            "accuracy": sums[3] / num_targets,
            "num_targets": sums[1],
        }
        return LossOutput(value, logs)


class _SummedCrossEntropy(torch.autograd.Function):
    """Sum of cross-entropies, whose gradient is computed together with the value.

    The gradient with respect to logits is softmax minus one-hot, whatever comes after the sum: so one pass
    over the chunks gives value and gradients with 3 matrix products, where recomputation in an activation
    checkpoint takes 4 (as in Liger Kernel, arXiv 2410.10989). What is kept is P x D and V x D.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        state_PD: Float[Tensor, "P D"],
        head_VD: Float[Tensor, "V D"],
        bias_V: Float[Tensor, " V"] | None,
        target_P: Int[Tensor, " P"],
        chunk_rows: int,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        full = torch.promote_types(state_PD.dtype, torch.float32)
        needs_state, needs_head, needs_bias, *_ = ctx.needs_input_grad  # type: ignore[attr-defined]
        grad_PD = torch.empty_like(state_PD) if needs_state else None
        # accumulated in fp32: a sum of many bf16 chunks would lose the small ones
        grad_VD = torch.zeros_like(head_VD, dtype=full) if needs_head else None
        grad_V = torch.zeros_like(head_VD[:, 0], dtype=full) if needs_bias else None
        total, num_correct = (torch.zeros((), dtype=full, device=state_PD.device) for _ in range(2))
        for start in range(0, len(state_PD), chunk_rows):
            rows = slice(start, start + chunk_rows)
            logit_cV = (state_PD[rows] @ head_VD.T).to(full)
            if bias_V is not None:
                logit_cV += bias_V
            loss, correct, slope_cV = _chunk(logit_cV, target_P[rows])
            total += loss
            num_correct += correct
            if grad_V is not None:
                grad_V += slope_cV.sum(dim=0)
            slope_cV = slope_cV.to(head_VD.dtype)
            if grad_PD is not None:
                torch.mm(slope_cV, head_VD, out=grad_PD[rows])
            if grad_VD is not None:
                _add_product(grad_VD, slope_cV.T, state_PD[rows])
        ctx.gradients = (grad_PD, grad_VD, grad_V)  # type: ignore[attr-defined]
        ctx.mark_non_differentiable(num_correct)
        return total, num_correct

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.gradients  # type: ignore[attr-defined]
        scaled = [None if gradient is None else gradient * grads[0] for gradient in gradients]
        return (*scaled, None, None)


def _chunk(
    logit_cV: Float[Tensor, "c V"], target_c: Int[Tensor, " c"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, "c V"]]:
    """Summed loss, number of right guesses, and the gradient with respect to the logits, in their place."""
    right_c1 = logit_cV.gather(1, target_c[:, None])
    num_correct = (logit_cV.argmax(dim=1) == target_c).sum().to(logit_cV.dtype)
    logsumexp_c1 = logit_cV.logsumexp(dim=1, keepdim=True)
    slope_cV = logit_cV.sub_(logsumexp_c1).exp_()
    slope_cV.scatter_add_(1, target_c[:, None], torch.full_like(right_c1, -1.0))
    return (logsumexp_c1 - right_c1).sum(), num_correct, slope_cV


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right, without a temporary of its size where the types agree."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right
