"""Two gloo ranks against one process: the same loss and the same gradient, for every loss."""

from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from codiemb.batch import EmbeddedBatch
from codiemb.losses import (
    PRO,
    AnglE,
    CoSENT,
    DistillKL,
    Graded,
    InfoNCE,
    ListNet,
    MarginMSE,
    Matryoshka,
    MidLayerInfoNCE,
    Pearson,
    RankKL,
    Ungraded,
    WeightedSum,
)
from tests.support.batches import EMBEDDINGS, make_batch, value_and_gradients
from tests.support.forks import METHOD

NAN = float("nan")
WORLD_SIZE = 2
LOSSES = {
    "info_nce": InfoNCE(0.1),
    "info_nce_chunked": InfoNCE(0.1, chunk_rows=1),
    "info_nce_aligned": InfoNCE(0.1, other_positives="aligned", margin_absolute=-0.3),
    "info_nce_out_of_batch": InfoNCE(0.1, in_batch=False),
    "info_nce_unmasked": InfoNCE(0.1, mask_false_negatives=False),
    "info_nce_all_terms": InfoNCE(0.1, symmetric=True, query_query=True, document_document=True),
    "info_nce_gte": InfoNCE(
        0.1, query_query=True, document_document=True, document_query=True, positive_twice=True, chunk_rows=2
    ),
    "info_nce_document_query": InfoNCE(0.1, document_query=True, margin_percent=0.9),
    "pearson": Pearson(),
    "rank_kl": RankKL(0.3),
    "list_net": ListNet(0.3),
    "pro": PRO(0.3),
    "cosent": CoSENT(0.3),
    "angle": AnglE(0.3),
    "mixed": WeightedSum(
        {
            "info_nce": (1.0, Ungraded(InfoNCE(0.1))),
            "own": (0.5, Ungraded(InfoNCE(0.1, in_batch=False))),
            "cosent": (1.0, Graded(CoSENT(0.3))),
            "mid": (1.0, Graded(MidLayerInfoNCE(0.1))),
        }
    ),
    "mid_layer": MidLayerInfoNCE(0.1),
    "matryoshka": Matryoshka(InfoNCE(0.1), [6, 3]),
    "distill_kl": DistillKL(0.3, 2.0),
    "margin_mse": MarginMSE(0.3),
    "matryoshka of distill_kl": Matryoshka(DistillKL(0.3, 2.0), [6, 3]),
    "codiemb_sts": WeightedSum(
        {
            "pearson": (2.0, Pearson()),
            "rank_kl": (0.2, RankKL(0.3)),
            "pro": (0.5, PRO(0.3)),
            "mid": (1.0, MidLayerInfoNCE(0.1)),
        }
    ),
}
LOGGING = [
    name
    for name, loss in LOSSES.items()
    if isinstance(loss, InfoNCE | MidLayerInfoNCE | DistillKL | MarginMSE)
]
GROUPS = [(2, 1), (1, 3), (1, 0), (3, 1), (1, 0), (1, 0)]  # three queries a rank, 8 and 6 documents
HASHES = [1000 + k for k in range(14)]
HASHES[9] = 1000  # rank 1's positive is the text of a positive of rank 0
HASHES[5] = 1013  # rank 0's hard negative is a positive on rank 1, of a query of the same text
SCORES = [1.0, 0.5, 0.2, 1.0, 0.0, NAN, 0.4, 1.0, 0.9, 1.0, 0.1, NAN, 0.7, 0.3]
TEACHER = [7.1, 2.5, -3.0, NAN, 1.5, NAN, 0.5, -9.0, 4.0, -2.0, NAN, 6.0, 6.0, 1.0]  # 2 lists and 1
CASES = {
    "ragged": (LOSSES, SCORES),
    "one rank without anchors": (LOSSES, [y if k < 8 else min(y, 0.9) for k, y in enumerate(SCORES)]),
    "one rank without scores": (LOSSES, SCORES[:8] + [NAN] * 6),
    "equal scores": (LOSSES, [0.5] * 14),
    "ungraded queries on both ranks": (LOSSES, [NAN] * 3 + SCORES[3:8] + SCORES[8:12] + [NAN] * 2),
    "graded queries on one rank only": (LOSSES, [NAN] * 3 + SCORES[3:8] + [NAN] * 6),
}


def global_batch(case: str) -> EmbeddedBatch:
    num_scored = 8 if case == "one rank without scores" else len(TEACHER)
    return make_batch(
        GROUPS,
        scores=CASES[case][1],
        teacher_scores=TEACHER[:num_scored] + [NAN] * (len(TEACHER) - num_scored),
        document_hash=HASHES,
        query_hash=[0, 1, 2, 3, 4, 1],
        middle=True,
    )


def share_of(batch: EmbeddedBatch, rank: int) -> EmbeddedBatch:
    """What one rank holds: half of the queries and their documents."""
    size = len(GROUPS) // WORLD_SIZE
    queries = slice(rank * size, (rank + 1) * size)
    mine = batch.groups.owner_N // size == rank

    def rows(part: tuple, is_query: tuple[str, ...]) -> dict[str, torch.Tensor]:
        return {
            field: column[queries if field.endswith(is_query) else mine]
            for field, column in part._asdict().items()
            if isinstance(column, torch.Tensor)
        }

    groups = batch.groups._replace(**rows(batch.groups, ("query_hash_B",)))
    groups = groups._replace(owner_N=groups.owner_N - rank * size)
    return batch._replace(**rows(batch, ("query_BD",)), groups=groups)


def run_rank(rank: int, folder: str) -> None:
    """Every case and loss on this rank's share; results go to a file."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/init",
        rank=rank,
        world_size=WORLD_SIZE,
        timeout=timedelta(seconds=60),  # a collective that one rank skips must fail, not hang
    )
    results = {
        (case, name): value_and_gradients(
            lambda b, loss=loss: loss(b).value, share_of(global_batch(case), rank)
        )
        for case, (losses, _) in CASES.items()
        for name, loss in losses.items()
    }
    results |= {("logs", name): LOSSES[name](share_of(global_batch("ragged"), rank)).logs for name in LOGGING}
    torch.save(results, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("gloo"))
    mp.start_processes(run_rank, args=(folder,), nprocs=WORLD_SIZE, start_method=METHOD)
    return [torch.load(f"{folder}/rank{rank}.pt") for rank in range(WORLD_SIZE)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", LOSSES)
def test_mean_over_ranks_is_the_single_process_loss_and_gradient(ranks, case, name):
    """Strategies average gradients over ranks: 1 / W of an embedding's gradient is what reaches a weight."""
    expected, expected_gradients = value_and_gradients(
        lambda b: CASES[case][0][name](b).value, global_batch(case)
    )
    values = [results[case, name][0] for results in ranks]
    torch.testing.assert_close(sum(values) / WORLD_SIZE, expected, rtol=1e-9, atol=1e-9)
    for key in EMBEDDINGS:
        averaged = torch.cat([results[case, name][1][key] for results in ranks]) / WORLD_SIZE
        torch.testing.assert_close(averaged, expected_gradients[key], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", LOGGING)
def test_every_rank_logs_what_one_process_logs(ranks, name):
    """Ranks hold different numbers of pairs; a mean over ranks of their means would be another number."""
    expected = LOSSES[name](global_batch("ragged")).logs
    for results in ranks:
        torch.testing.assert_close(results["logs", name], expected)


def test_the_cases_are_not_vacuous(ranks):
    for name, loss in LOSSES.items():
        _, gradients = value_and_gradients(lambda b, loss=loss: loss(b).value, global_batch("ragged"))
        assert max(gradient.abs().max() for gradient in gradients.values()) > 1e-3, name
    # a rank without anchors still takes part: its value is 0, its documents are negatives of the other rank
    for case in ("one rank without anchors", "one rank without scores"):
        value, gradients = ranks[1][case, "mid_layer"]
        assert value == 0
        assert (gradients["middle_document_ND"].abs().sum(dim=1) > 0).all()
        assert ranks[0][case, "mid_layer"][0] > 0
    # with equal scores no rank has anything to learn, and none has waited for the other
    assert all(results["equal scores", "codiemb_sts"][0] == 0 for results in ranks)


def test_ranks_hold_different_numbers_of_documents_and_anchors():
    shares = [share_of(global_batch("ragged"), rank) for rank in range(WORLD_SIZE)]
    assert [len(share.groups.owner_N) for share in shares] == [8, 6]
    assert [(share.groups.score_N >= 1).sum().item() for share in shares] == [3, 1]
