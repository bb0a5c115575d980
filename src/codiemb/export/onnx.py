"""Why an export has no ONNX file beside its weights: what sentence-transformers' own backend can do today."""

# bidirectional kinds that its backend exported, in an environment of its own; all but bert, which was not
# looked at, embedded the same
ENCODERS = ("bert", "roberta", "xlm-roberta", "distilbert", "mpnet")


def why_not_onnx(model_type: str) -> str:
    """Why this kind of model cannot be had as ONNX; "" where an environment of its own can write it."""
    if model_type in ENCODERS:
        return ""
    return (
        f"not for a {model_type}: sentence-transformers' backend passes no position_ids, which the graph of "
        "a decoder asks for"
    )
