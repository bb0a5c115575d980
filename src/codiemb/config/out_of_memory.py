"""Memory that was not enough, on the CPU or on a card: what to lower, beside what the library says."""

import errno
import re
import sys
from collections.abc import Iterator

_SIGNS = re.compile(
    r"DefaultCPUAllocator|out of memory|[Cc]annot allocate memory|can't allocate memory|_ALLOC_FAILED"
    r"|DataLoader worker .* killed by signal: Killed"
)
_TRAINING = (
    "lower encoder.max_tokens_per_chunk first (8192, 4096, ...: the same gradients in smaller pieces), then "
    "model.max_tokens or tasks.*.max_query_tokens and max_document_tokens, then tasks.*.global_batch_size; "
    "after a checkpoint resume=true goes on"
)
_EVALUATION = "lower model.max_tokens, or take a smaller model or model.dtype=bfloat16"


def advice(error: BaseException, *, training: bool) -> str | None:
    """What to lower, and the original text; None for any other error."""
    found = next((each for each in _chain(error) if _is_memory(each)), None)
    if found is None:
        return None
    said = str(found).strip() or type(found).__name__
    return f"out of memory: {_TRAINING if training else _EVALUATION}\n{said}"


def _is_memory(error: BaseException) -> bool:
    torch = sys.modules.get("torch")  # which takes seconds: without it, it has no memory
    if isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and _SIGNS.search(str(error)) is not None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
