"""InfoNCE against loops over its formula, and the claims of its docstring one by one."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.util import dot_score
from torch.nn.functional import cross_entropy, normalize

from codiemb.losses import InfoNCE
from tests.support import oracles
from tests.support.batches import assert_same, make_batch, regrouped, value_and_gradients
from tests.support.ragged import OPTIONS, ragged_batch

GTE = {"query_query": True, "document_document": True, "document_query": True, "positive_twice": True}
MEETS_QUERIES = {"symmetric", "query_query", "document_query"}  # and so need other queries


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_each_option_equals_its_formula_and_changes_the_loss(options):
    batch = ragged_batch()
    value = assert_same(InfoNCE(0.1, **options), lambda b: oracles.info_nce(b, 0.1, **options), batch)
    assert abs(value - InfoNCE(0.1)(batch).value) > 1e-4


@pytest.mark.parametrize("chosen", [(), *itertools.combinations(OPTIONS, 2)], ids="+".join)
def test_options_combine_as_their_formulas_do(chosen):
    options = {key: value for name in chosen for key, value in OPTIONS[name].items()}
    if "out_of_batch" in chosen and MEETS_QUERIES & {key for name in chosen for key in OPTIONS[name]}:
        with pytest.raises(ValueError, match="in_batch"):
            InfoNCE(**options)
        return
    assert_same(InfoNCE(0.1, **options), lambda b: oracles.info_nce(b, 0.1, **options), ragged_batch())


@pytest.mark.parametrize("options", [o for name, o in OPTIONS.items() if name != "out_of_batch"], ids=str)
def test_a_batch_may_say_that_its_queries_have_only_their_own_negatives(options):
    batch = ragged_batch()
    own = {name: value for name, value in options.items() if name not in {*MEETS_QUERIES, "positive_twice"}}
    expected = InfoNCE(0.1, **own, in_batch=False)(batch)
    found = InfoNCE(0.1, **options)(regrouped(batch, in_batch=False))
    assert found.value == expected.value
    assert found.logs == expected.logs


def test_all_options_at_once_equal_the_formula():
    options = {k: v for name in OPTIONS if name != "out_of_batch" for k, v in OPTIONS[name].items()}
    options["mask_false_negatives"] = True
    assert_same(InfoNCE(0.1, **options), lambda b: oracles.info_nce(b, 0.1, **options), ragged_batch())


def test_aligned_is_the_published_formula_on_rectangular_groups():
    num_queries, num_positives, num_negatives, tau = 4, 2, 3, 0.05
    batch = make_batch([(num_positives, num_negatives)] * num_queries)

    def published(b):
        grouped = b.document_ND.view(num_queries, num_positives + num_negatives, -1)
        hard = grouped[:, num_positives:].flatten(0, 1)
        target = torch.arange(num_queries)
        per_place = [
            cross_entropy(b.query_BD @ torch.cat([grouped[:, m], hard]).T / tau, target)
            for m in range(num_positives)
        ]
        return torch.stack(per_place).mean()

    assert_same(InfoNCE(tau, other_positives="aligned"), published, batch)


def test_one_positive_without_negatives_is_in_batch_cross_entropy():
    batch = make_batch([(1, 0)] * 6)
    assert_same(
        InfoNCE(0.05),
        lambda b: cross_entropy(b.query_BD @ b.document_ND.T / 0.05, torch.arange(6)),
        batch,
    )


def test_own_other_positives_are_no_negatives():
    batch = make_batch([(4, 0), (1, 0)])
    _, before = value_and_gradients(lambda b: InfoNCE(0.1)(b).value, batch)
    alone = make_batch([(4, 0)])
    assert InfoNCE(0.1)(alone).value == 0
    assert before["document_ND"].abs().sum() > 0


def test_a_duplicate_of_the_positive_leaves_the_denominator_and_the_positive_stays():
    hashes = [1000, 1001, 1002]
    clean = make_batch([(1, 1), (1, 0)], document_hash=hashes)
    # query 1 brings query 0's positive as its hard negative
    soiled = make_batch([(1, 1), (1, 1)], document_hash=[*hashes, 1000])
    soiled = soiled._replace(
        query_BD=clean.query_BD, document_ND=torch.cat([clean.document_ND, clean.document_ND[:1]])
    )
    tau = 0.2

    def first_query(batch):
        pairs = InfoNCE(tau).pair_losses(batch, torch.ones_like(batch.document_ND[:, 0]))
        return pairs.loss_P[pairs.owner_P == 0]

    torch.testing.assert_close(first_query(soiled), first_query(clean))
    assert first_query(clean) > 0
    s = clean.query_BD @ clean.document_ND.T / tau
    torch.testing.assert_close(first_query(clean)[0], torch.logsumexp(s[0], 0) - s[0, 0])
    # for query 1 the same text is an honest negative
    pairs = InfoNCE(tau).pair_losses(soiled, torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(pairs.loss_P[1], torch.logsumexp(s[1, [0, 1, 2, 0]], 0) - s[1, 2])


def test_positives_of_another_query_with_the_same_text_are_no_negatives():
    twins = make_batch([(1, 0), (1, 0)], query_hash=[5, 5])
    assert InfoNCE(0.1)(twins).value == 0
    assert InfoNCE(0.1, mask_false_negatives=False)(twins).value > 0.1


def test_margins_are_constants_to_the_gradient_and_mask_by_similarity():
    q = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    d = normalize(
        torch.tensor([[3.0, 4.0], [0.58, 0.8], [0.4, 0.9], [-1.0, 0.5]], dtype=torch.float64), dim=1
    )
    batch = make_batch([(1, 3)], dim=2)._replace(query_BD=q, document_ND=d)
    s = (d @ q[0]) / 0.5  # similarities 0.6, 0.587, 0.406, -0.894
    loss = InfoNCE(0.5, margin_absolute=0.1)
    torch.testing.assert_close(loss(batch).value, torch.logsumexp(s[[0, 2, 3]], 0) - s[0])
    loss = InfoNCE(0.5, margin_percent=0.5)
    torch.testing.assert_close(loss(batch).value, torch.logsumexp(s[[0, 3]], 0) - s[0])
    torch.testing.assert_close(loss(batch).logs["masked_share"], torch.tensor(2 / 3).double())
    both = InfoNCE(0.5, margin_absolute=0.1, margin_percent=0.5)
    torch.testing.assert_close(both(batch).value, loss(batch).value)


@pytest.mark.parametrize("chunk_rows", [1, 3, 512])
@pytest.mark.parametrize(
    "others", [{}, {"mask_false_negatives": False}, {"margin_percent": 0.8, "margin_absolute": -0.2}], ids=str
)
def test_gte_s_loss_is_its_formula_with_every_mask_margin_and_chunk(chunk_rows, others):
    options = GTE | others
    for seed in (0, 1):
        batch = ragged_batch(seed=seed)
        loss = InfoNCE(0.1, chunk_rows=chunk_rows, **options)
        assert_same(loss, lambda b: oracles.info_nce(b, 0.1, **options), batch)


def test_gte_s_loss_is_that_of_sentence_transformers():
    """Pairs without hard negatives, of which its similarities between documents leave out the query's own."""
    directions = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")
    theirs = MultipleNegativesRankingLoss(None, 10, dot_score, directions=directions)  # in one partition
    batch, no_labels = make_batch([(1, 0)] * 7), torch.empty(0)
    batch = batch._replace(document_ND=normalize(batch.query_BD + batch.document_ND, dim=1))
    value = assert_same(
        InfoNCE(0.1, **GTE),
        lambda b: theirs.compute_loss_from_embeddings([b.query_BD, b.document_ND], no_labels),
        batch,
    )
    without = {"positive_twice": False}, {"positive_twice": False, "document_query": False}
    assert all(value - InfoNCE(0.1, **GTE | options)(batch).value > 0.05 for options in without)


def test_a_margin_keeps_its_distance_below_a_negative_similarity_too():
    """-0.5 * 0.95 would be -0.475, above the positive: a negative at -0.48 was kept."""
    tau, similarities = 0.5, [-0.5, -0.48, -0.51, -0.524, -0.526, -0.9]
    loss = InfoNCE(tau, margin_percent=0.95)
    for positive, kept in ((-0.5, [-0.526, -0.9]), (0.5, [0.474, -0.9]), (0.0, [-0.001]), (-1.0, [])):
        tried = [positive, *similarities[1:], 0.474, 0.476, 0.001, -0.001]
        s = torch.tensor([positive, *(x for x in tried[1:] if x <= positive - 0.05 * abs(positive))])
        batch = with_one_query(tried)
        assert {*kept} <= {round(float(x), 3) for x in s[1:]}
        expected = torch.logsumexp(s.double() / tau, 0) - s[0].double() / tau
        torch.testing.assert_close(loss(batch).value, expected, rtol=1e-6, atol=1e-6)


def with_one_query(similarities):
    """One query whose positive and hard negatives have these similarities."""
    angle = torch.tensor(similarities, dtype=torch.float64).arccos()
    return make_batch([(1, len(similarities) - 1)], dim=2)._replace(
        query_BD=torch.tensor([[1.0, 0.0]], dtype=torch.float64),
        document_ND=torch.stack([angle.cos(), angle.sin()], dim=1),
    )


def test_logs_describe_the_batch():
    q = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    d = torch.tensor([[0.96, 0.28], [0.6, 0.8], [0.8, 0.6], [0.8, 0.6]])
    # query 0: positive 0, hard negative 1; query 1: positive 2, and the text of its positive again
    batch = make_batch([(1, 1), (1, 1)], document_hash=[10, 11, 12, 12], dim=2)
    logs = InfoNCE()(batch._replace(query_BD=q, document_ND=d)).logs
    assert set(logs) == {"masked_share", "positive_similarity", "hardest_negative_similarity", "accuracy@1"}
    # query 0 meets 0.6, 0.8, 0.8; query 1 meets 0.28 and 0.8, its third candidate is masked
    expected = {
        "masked_share": 1 / 6,
        "positive_similarity": (0.96 + 0.6) / 2,
        "hardest_negative_similarity": 0.8,
        "accuracy@1": 0.5,
    }
    for key, value in expected.items():
        assert not logs[key].requires_grad
        assert logs[key].item() == pytest.approx(value, abs=1e-6), key


@pytest.mark.parametrize(
    "options", [{"margin_absolute": 0.05}, {"query_query": True, "document_document": True}], ids=" ".join
)
def test_options_do_not_change_what_the_hardest_negative_and_accuracy_mean(options):
    """A margin hides exactly the negatives above the positive: accuracy after it would always be 1."""
    batch = ragged_batch(seed=7)
    plain, logs = (InfoNCE(0.1, **each)(batch).logs for each in ({}, options))
    for key in ("positive_similarity", "hardest_negative_similarity", "accuracy@1"):
        assert logs[key] == plain[key], key
    assert 0 < plain["accuracy@1"] < 1


@settings(max_examples=25, deadline=None)
@given(
    groups=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3)), min_size=1, max_size=5),
    seed=st.integers(0, 10**6),
    data=st.data(),
)
def test_the_order_of_queries_does_not_matter(groups, seed, data):
    batch = make_batch(groups, seed=seed)
    order = data.draw(st.permutations(range(len(groups))))
    documents = torch.cat([(batch.groups.owner_N == i).nonzero().squeeze(1) for i in order])
    place = torch.empty(len(groups), dtype=torch.int64)
    place[torch.tensor(order)] = torch.arange(len(groups))
    shuffled = batch._replace(
        query_BD=batch.query_BD[order],
        document_ND=batch.document_ND[documents],
        groups=batch.groups._replace(
            query_hash_B=batch.groups.query_hash_B[order],
            owner_N=place[batch.groups.owner_N[documents]],
            is_positive_N=batch.groups.is_positive_N[documents],
            document_hash_N=batch.groups.document_hash_N[documents],
        ),
    )
    for options in ({}, {"other_positives": "aligned"}, {"symmetric": True}):
        loss = InfoNCE(0.1, **options)
        torch.testing.assert_close(loss(shuffled).value, loss(batch).value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"chunk_rows": 0}, "chunk_rows"),
        ({"in_batch": False, "symmetric": True}, "in_batch"),
        ({"in_batch": False, "query_query": True}, "in_batch"),
        ({"in_batch": False, "document_query": True}, "in_batch"),
        ({"positive_twice": True}, "document_query"),
    ],
)
def test_a_bad_argument_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        InfoNCE(**arguments)
