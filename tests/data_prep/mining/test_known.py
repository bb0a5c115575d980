"""What is known to be no negative, against sets of the same facts."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from codiemb.mining.limits import REASONS
from data_prep.layout import QRELS
from data_prep.mining.known import Known
from data_prep.relations import Ids
from tests.support.sources import make_source, write_table

pairs = st.sets(st.tuples(st.integers(0, 3), st.integers(0, 7)), max_size=12)


@settings(deadline=None, max_examples=30)  # each writes four small files
@given(
    pairs,
    st.lists(st.sampled_from("abc"), min_size=8, max_size=8),
    st.lists(st.sampled_from("xyz-"), min_size=8, max_size=8),
)
def test_positives_their_texts_and_their_clusters_are_no_negatives(
    tmp_path_factory, positives, texts, clusters
):
    queries = {f"q{i}": text for i, text in enumerate("aBde")}
    documents = [
        {"id": f"d{i}", "text": text, "cluster": None if cluster == "-" else cluster}
        for i, (text, cluster) in enumerate(zip(texts, clusters, strict=True))
    ]
    qrels = [(f"q{q}", f"d{d}") for q, d in sorted(positives)]
    source = make_source(tmp_path_factory.mktemp("source"), queries, documents, qrels)
    known = Known(source, Ids.read(source))

    def expected(query: int, document: int) -> str:
        own = {d for q, d in positives if q == query}
        if document in own:
            return "positive"
        if texts[document] in {texts[d] for d in own} | {"abde"[query]}:  # case does not count
            return "same text"
        if clusters[document] != "-" and clusters[document] in {clusters[d] for d in own}:
            return "same cluster"
        return ""

    query, document = (side.ravel() for side in np.meshgrid(np.arange(4), np.arange(8), indexing="ij"))
    found = [REASONS[code] for code in known.verdicts(query, document)]
    assert found == [expected(q, d) for q, d in zip(query.tolist(), document.tolist(), strict=True)]


def test_a_right_document_that_a_step_dropped_is_no_negative_unless_it_was_judged_again(tmp_path):
    documents = [
        {"id": "d0", "text": "right"},
        {"id": "d1", "text": "right, but scored low", "cluster": "c"},
        {"id": "d2", "text": "nearly d1", "cluster": "c"},
        {"id": "d3", "text": "Too long", "dropped_by": "clean", "reason": "too_long"},
        {"id": "d4", "text": "too long"},
        {"id": "d5", "text": "relabelled"},
    ]
    source = make_source(tmp_path / "source", {"q": "a"}, documents, [("q", f"d{i}") for i in (0, 1, 3, 5)])
    judged = [
        {"query": "q", "document": "d0", "grade": 1.0},
        {"query": "q", "document": "d1", "grade": 1.0, "dropped_by": "filter", "reason": "score"},
        {"query": "q", "document": "d3", "grade": 1.0},
        {"query": "q", "document": "d5", "grade": 1.0, "dropped_by": "relabel", "reason": "wrong"},
        {"query": "q", "document": "d5", "grade": 0.0},
    ]
    write_table(source / QRELS, QRELS, judged)
    known = Known(source, Ids.read(source))
    found = known.verdicts(np.zeros(6, dtype=np.int64), np.arange(6))
    reasons = [REASONS[code] for code in found]
    assert reasons == ["positive", "positive", "same cluster", "positive", "same text", ""]
    assert known.positives.document.tolist() == [0]  # what is mined for and compared with


def test_what_answers_a_query_of_the_same_text_is_no_negative(tmp_path):
    queries = {"q0": "Who?", "q1": "who? ", "q2": "where?"}
    documents = {f"d{i}": text for i, text in enumerate(("a", "b", "c"))}
    source = make_source(tmp_path / "source", queries, documents, [(f"q{i}", f"d{i}") for i in range(3)])
    known = Known(source, Ids.read(source))
    query, document = (side.ravel() for side in np.meshgrid(np.arange(3), np.arange(3), indexing="ij"))
    found = known.verdicts(query, document).reshape(3, 3)
    assert (found == REASONS.index("positive")).tolist() == [[True, True, False]] * 2 + [[False, False, True]]
    assert known.positives_of(np.array([0])).document.tolist() == [0]  # each is mined for by itself
