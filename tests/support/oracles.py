"""The formulas of the losses as plain loops over float64, for value and (through autograd) gradient.

Nothing here calls the package; only the field names of EmbeddedBatch are shared.
"""

import math

import torch
from torch import Tensor

from codiemb.batch import EmbeddedBatch, Groups


def positives_of(b: EmbeddedBatch, query: int) -> list[int]:
    owner, positive = b.groups.owner_N.tolist(), b.groups.is_positive_N.tolist()
    return [k for k in range(len(owner)) if owner[k] == query and positive[k]]


def is_false_negative(b: EmbeddedBatch, query_text: int, text: int) -> bool:
    """The query's own text, or a positive of any query with its text."""
    same_text = [j for j, other in enumerate(b.groups.query_hash_B.tolist()) if other == query_text]
    positive_texts = [b.groups.document_hash_N[k].item() for j in same_text for k in positives_of(b, j)]
    return text == query_text or text in positive_texts


def negative_documents(
    b: EmbeddedBatch, i: int, m: int, aligned: bool, mask: bool, in_batch: bool
) -> list[int]:
    """The negatives of query i's m-th positive."""
    negatives = []
    for k, j in enumerate(b.groups.owner_N.tolist()):
        group = positives_of(b, j)
        other_place = aligned and k in group and k != group[m % len(group)]
        own_positive = j == i and k in group
        foreign = j != i and not in_batch
        false = mask and is_false_negative(
            b, b.groups.query_hash_B[i].item(), b.groups.document_hash_N[k].item()
        )
        if not (own_positive or other_place or foreign or false):
            negatives.append(k)
    return negatives


def minus_log_share(
    s_positive: Tensor,
    candidates: list[Tensor],
    temperature: float,
    margin_absolute: float | None,
    margin_percent: float | None,
    positive_twice: bool = False,
) -> Tensor:
    """-log of the positive's share of the softmax over it and the candidates that no margin excludes."""
    if margin_absolute is not None:
        candidates = [s for s in candidates if s.item() <= s_positive.item() - margin_absolute]
    if margin_percent is not None:
        distance = (1 - margin_percent) * abs(s_positive.item())
        candidates = [s for s in candidates if s.item() <= s_positive.item() - distance]
    candidates = [s_positive, *candidates] if positive_twice else candidates
    return -torch.log_softmax(torch.stack([s_positive, *candidates]) / temperature, dim=0)[0]


def info_nce(
    b: EmbeddedBatch,
    temperature: float,
    other_positives: str = "all",
    mask_false_negatives: bool = True,
    margin_absolute: float | None = None,
    margin_percent: float | None = None,
    in_batch: bool = True,
    symmetric: bool = False,
    query_query: bool = False,
    document_document: bool = False,
    document_query: bool = False,
    positive_twice: bool = False,
) -> Tensor:
    q, d, mask = b.query_BD, b.document_ND, mask_false_negatives
    text, document_text = b.groups.query_hash_B.tolist(), b.groups.document_hash_N.tolist()
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(q)):
        others = [j for j in range(len(q)) if j != i]
        near = [j for j in others if not (mask and is_false_negative(b, text[i], text[j]))]
        for m, p in enumerate(positives_of(b, i)):
            negatives = negative_documents(b, i, m, other_positives == "aligned", mask, in_batch)
            candidates = [q[i] @ d[k] for k in negatives]
            candidates += [q[i] @ q[j] for j in near if query_query]
            candidates += [d[p] @ d[k] for k in negatives if document_document]
            false = [j for j in others if mask and is_false_negative(b, text[j], document_text[p])]
            turned = [q[j] @ d[p] for j in others if j not in false]
            candidates += turned if document_query else []
            margins = (margin_absolute, margin_percent)
            loss = minus_log_share(q[i] @ d[p], candidates, temperature, *margins, positive_twice)
            if symmetric:
                back = minus_log_share(q[i] @ d[p], turned, temperature, *margins)
                loss = (loss + back) / 2
            total = total + loss / len(positives_of(b, i)) / len(q)
    return total


def mid_layer_info_nce(b: EmbeddedBatch, temperature: float, min_score: float, mask: bool = True) -> Tensor:
    q, d = b.middle_query_BD, b.middle_document_ND
    owner, scores = b.groups.owner_N.tolist(), b.groups.score_N.tolist()
    text, query_text = b.groups.document_hash_N.tolist(), b.groups.query_hash_B.tolist()
    anchors = [k for k, y in enumerate(scores) if y >= min_score]
    known = {(query_text[owner[k]], text[k]) for k in anchors}
    losses = []
    for a in anchors:
        i = owner[a]
        logits = [q[i] @ d[a] / temperature]
        for k in range(len(scores)):
            sibling = k in anchors and owner[k] == i
            false = mask and (text[k] == query_text[i] or (query_text[i], text[k]) in known)
            if not sibling and not false:
                logits.append(q[i] @ d[k] / temperature)
        losses.append(torch.logsumexp(torch.stack(logits), dim=0) - logits[0])
    return torch.stack(losses).sum() / len(anchors)


def graded(b: EmbeddedBatch) -> tuple[list[Tensor], list[float]]:
    """Similarities and scores, unscored documents left out."""
    owner, scores = b.groups.owner_N.tolist(), b.groups.score_N.double().tolist()
    kept = [k for k, y in enumerate(scores) if y == y]
    return [b.query_BD[owner[k]] @ b.document_ND[k] for k in kept], [scores[k] for k in kept]


def pearson(b: EmbeddedBatch) -> Tensor:
    s, y = graded(b)
    n = len(s)
    mean_s, mean_y = sum(s) / n, sum(y) / n
    covariance = sum((s[i] - mean_s) * (y[i] - mean_y) for i in range(n)) / n
    variance_s = sum((s[i] - mean_s) ** 2 for i in range(n)) / n
    variance_y = sum((y[i] - mean_y) ** 2 for i in range(n)) / n
    return 1 - covariance / (variance_s * variance_y) ** 0.5


def rank_kl(b: EmbeddedBatch, temperature: float) -> Tensor:
    s, y = graded(b)
    n = len(s)
    order = sorted(range(n), key=lambda i: -y[i])
    rank = {}
    for i in range(n):
        places = [place for place, k in enumerate(order) if y[k] == y[i]]
        rank[i] = sum(places) / len(places)
    target = torch.tensor([(n - 1 - rank[i]) / (n - 1) for i in range(n)], dtype=torch.float64)
    p = torch.exp(target / temperature) / torch.exp(target / temperature).sum()
    log_total = torch.logsumexp(torch.stack(s) / temperature, dim=0)
    return sum(p[i] * (torch.log(p[i]) - (s[i] / temperature - log_total)) for i in range(n))


def list_net(b: EmbeddedBatch, temperature: float) -> Tensor:
    s, y = graded(b)
    top = [torch.exp(torch.tensor(v / temperature, dtype=torch.float64)) for v in y]
    log_total = torch.logsumexp(torch.stack(s) / temperature, dim=0)
    return -sum(t / sum(top) * (v / temperature - log_total) for t, v in zip(top, s, strict=True))


def pro(b: EmbeddedBatch, temperature: float, centred: bool = False) -> Tensor:
    """The published loop: sort by score, then each place against the strictly lower scores after it."""
    s, y = graded(b)
    if centred:
        s = [each - sum(s) / len(s) for each in s]
    order = sorted(range(len(s)), key=lambda i: -y[i])
    s, y = [s[i] for i in order], [y[i] for i in order]
    terms = []
    for k in range(len(s) - 1):
        lower = [j for j in range(k + 1, len(s)) if y[k] - y[j] > 1e-8]
        if not lower:
            continue
        weight = max(y[k] - y[j] for j in lower)
        logits = [weight * s[k] / temperature] + [(y[k] - y[j]) * s[j] / temperature for j in lower]
        terms.append(torch.logsumexp(torch.stack(logits), dim=0) - logits[0])
    return torch.stack(terms).sum() / len(terms)


def cosent(b: EmbeddedBatch, temperature: float) -> Tensor:
    s, y = graded(b)
    n = len(s)
    wrong = [(s[j] - s[i]) / temperature for i in range(n) for j in range(n) if y[i] > y[j]]
    return torch.logsumexp(torch.stack([torch.zeros((), dtype=torch.float64), *wrong]), dim=0)


def angle(b: EmbeddedBatch, temperature: float) -> Tensor:
    """In complex numbers: z / w, which for |w| = 1 is z conj(w), real and imaginary parts summed."""
    similarities, y = [], []
    for k, score in enumerate(b.groups.score_N.double().tolist()):
        if score == score:
            q, d = b.query_BD[b.groups.owner_N[k]], b.document_ND[k]
            half = len(q) // 2
            z, w = torch.complex(q[:half], q[half:]), torch.complex(d[:half], d[half:])
            quotient = z * w.conj()
            similarities.append((quotient.real.sum() + quotient.imag.sum()).abs())
            y.append(score)
    pairs = [(i, j) for i in range(len(y)) for j in range(len(y)) if y[i] > y[j]]
    wrong = [(similarities[j] - similarities[i]) / temperature for i, j in pairs]
    return torch.logsumexp(torch.stack([torch.zeros((), dtype=torch.float64), *wrong]), dim=0)


def scored_lists(b: EmbeddedBatch) -> list[list[tuple[Tensor, float, bool]]]:
    """(similarity, teacher's score, whether a positive) of the scored documents of every query."""
    lists = [[] for _ in b.query_BD]
    for k, score in enumerate(b.groups.teacher_score_N.double().tolist()):
        if score == score:
            i = int(b.groups.owner_N[k])
            lists[i].append((b.query_BD[i] @ b.document_ND[k], score, bool(b.groups.is_positive_N[k])))
    return lists


def distill_kl(b: EmbeddedBatch, temperature: float, teacher_temperature: float) -> Tensor:
    losses = []
    for documents in scored_lists(b):
        if len(documents) < 2:
            continue
        weights = [math.exp(t / teacher_temperature) for _, t, _ in documents]
        log_total = torch.logsumexp(torch.stack([s for s, _, _ in documents]) / temperature, dim=0)
        p = [weight / sum(weights) for weight in weights]
        log_q = [s / temperature - log_total for s, _, _ in documents]
        losses.append(sum(p[k] * (math.log(p[k]) - log_q[k]) for k in range(len(documents))))
    return sum(losses) / len(losses)


def margin_mse(b: EmbeddedBatch, temperature: float) -> Tensor:
    losses = []
    for documents in scored_lists(b):
        squares = [
            ((s_p - s_n) / temperature - (t_p - t_n)) ** 2
            for s_p, t_p, p_is_positive in documents
            for s_n, t_n, n_is_positive in documents
            if p_is_positive and not n_is_positive
        ]
        if squares:
            losses.append(sum(squares) / len(squares))
    return sum(losses) / len(losses)


def part(b: EmbeddedBatch, graded: bool) -> EmbeddedBatch:
    """The batch of the queries that have a scored document, or of the others, put together by hand."""
    owners, scores = b.groups.owner_N.tolist(), b.groups.score_N.tolist()
    with_scores = {owner for owner, y in zip(owners, scores, strict=True) if y == y}
    queries = [i for i in range(len(b.query_BD)) if (i in with_scores) == graded]
    documents = [k for k, owner in enumerate(owners) if owner in queries]
    rows = {"query_BD": queries, "query_hash_B": queries, "middle_query_BD": queries}

    def picked(columns: dict[str, object]) -> dict[str, Tensor]:
        return {
            name: torch.stack([column[k] for k in rows.get(name, documents)])
            for name, column in columns.items()
            if isinstance(column, Tensor)
        }

    owner = torch.tensor([queries.index(owners[k]) for k in documents])
    groups = Groups(**picked(b.groups._asdict()) | {"owner_N": owner})
    return EmbeddedBatch(**picked(b._asdict()), groups=groups)
