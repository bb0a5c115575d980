"""What a researcher chose about a task: the schema of an entry of `tasks`."""

from dataclasses import dataclass


@dataclass
class TaskSpec:
    """What a task fixes about its batches; None for `num_*` means all that a record has.

    Attributes:
        global_batch_size: queries (raw texts, for lm) per optimizer step over all ranks.
        max_query_tokens: longer queries are cut; prompt and special tokens count.
        max_document_tokens: likewise for documents, and for the windows of raw texts.
        num_positives: sampled per query, at most.
        num_negatives: hard negatives sampled per query, at most.
        num_windows: lm only: windows of `max_document_tokens` sampled per raw text, at most.
        mask_share: lm only: share of a window's tokens that is masked and predicted; None predicts every next
            token, which takes causal attention.
        predict_from: lm only: the state that predicts a masked token: `previous` (MNTP), `mask` (MLM), or
            `embedding`, of the text without the tokens to predict.
    """

    global_batch_size: int = 32
    max_query_tokens: int = 512
    max_document_tokens: int = 512
    num_positives: int | None = None
    num_negatives: int | None = None
    num_windows: int | None = None
    mask_share: float | None = None
    predict_from: str = "previous"
