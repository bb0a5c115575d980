"""The panels of the dashboard, as data: section -> (title, pattern of the metrics that share a panel)."""

Panel = tuple[str, str]

SECTIONS: dict[str, list[Panel]] = {
    "Results": [  # one value a run: W&B draws bars
        ("after", r"(test|dev)/.+"),
        ("before", r"before/.+"),
    ],
    "Dev metrics": [
        ("dev metrics", r"val/.+"),
        ("probe: nDCG@10", r"probe/[^/]+/ndcg@10"),
        ("probe: Spearman", r"probe/[^/]+/cosine_spearman"),
    ],
    "Losses": [
        ("loss by task", r"train/loss/[^/]+"),
        ("IR terms", r"train/loss/ir/[^/]+"),
        ("STS terms", r"train/loss/sts/[^/]+"),
    ],
    "Contrast": [
        ("positive similarity", r"train/loss/.+/positive_similarity"),
        ("hardest negative similarity", r"train/loss/.+/hardest_negative_similarity"),
        ("accuracy@1", r"train/loss/.+/accuracy@1"),
        ("masked share", r"train/loss/.+/masked_share"),
    ],
    "Geometry": [
        ("alignment", r"train/alignment/.+"),
        ("uniformity", r"train/uniformity/.+"),
        ("effective rank", r"train/effective_rank/.+"),
        ("mean cosine", r"train/mean_cosine/.+"),
        ("gradient cosine", r"train/gradient_cosine/.+"),
    ],
    "Optimisation and speed": [
        ("learning rate", r"lr-.+"),
        ("gradient norm", r"train/grad_norm"),
        ("tokens per second", r"perf/tokens_per_second"),
        ("data wait", r"perf/data_wait"),
        ("peak memory, MiB", r"perf/peak_memory_mib"),
    ],
}
