"""From (instruction, text) to token ids and the exact number of leading prompt tokens that are not pooled."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tokenizers import Tokenizer, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from codiemb.errors import UserError

_INSTRUCTION = "{instruction}"
_PROBES = ("a", "A word", "1", "你好", "été", "?")


@dataclass(frozen=True)
class PromptTemplate:
    """What stands before a text: `query` where there is an instruction, `document` where there is none.

    Prompts are prefixes only, because that is all sentence-transformers can store and reproduce. A `query`
    without `{instruction}` is a fixed prompt.

    Raises:
        UserError: `{instruction}` stands in `query` more than once.
    """

    query: str = "Instruction: {instruction} \nQuery: "
    document: str = ""

    def __post_init__(self) -> None:
        if self.query.count(_INSTRUCTION) > 1:
            raise UserError(f"model.prompt.query={self.query!r} contains {_INSTRUCTION} more than once")

    def prompt(self, instruction: str) -> str:
        """The literal prefix of a text with this instruction ("" means none)."""
        return self.query.replace(_INSTRUCTION, instruction) if instruction else self.document

    @property
    def tail(self) -> str:
        """The literal text that ends every query prompt."""
        return self.query.split(_INSTRUCTION)[-1]


class TokenizedText(NamedTuple):
    """Token ids of prompt + text, and how many of them belong to the prompt."""

    input_ids: list[int]
    prompt_length: int


class TextTokenizer:
    """Tokenises prompt and text as one string, and finds where the text begins by character offsets.

    Counting the tokens of the prompt alone is wrong where a token straddles the boundary (byte-level BPE
    glues the prompt's last space to the first word). sentence-transformers counts that way, so where the
    tokenizer would straddle, its pre-tokenizer is told to keep the end of the prompt apart: then both ways
    agree, and a word has the same tokens behind a prompt as at the start of a document.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        template: PromptTemplate,
        *,
        pool_prompt: bool = False,
        append_eos: bool = False,
    ) -> None:
        self.hf = tokenizer
        self.template = template
        self.pool_prompt = pool_prompt
        if append_eos:
            _append_eos(tokenizer)
        if not pool_prompt:
            self._keep_prompt_apart()

    def __call__(self, texts: Sequence[tuple[str, str]], max_tokens: int) -> list[TokenizedText]:
        """Tokenise (instruction, text) pairs, cut at `max_tokens` (prompt and special tokens included).

        Raises:
            UserError: the prompt alone fills `max_tokens`, so nothing of a text would be left.
        """
        prompts = [self.template.prompt(instruction) for instruction, _ in texts]
        encodings = self.hf(
            [prompt + text for prompt, (_, text) in zip(prompts, texts, strict=True)],
            truncation=True,
            max_length=max_tokens,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        rows = zip(encodings["input_ids"], encodings["offset_mapping"], prompts, strict=True)
        return [self._tokenized(ids, offsets, prompt, max_tokens) for ids, offsets, prompt in rows]

    def _tokenized(
        self, ids: list[int], offsets: list[tuple[int, int]], prompt: str, max_tokens: int
    ) -> TokenizedText:
        if not prompt or self.pool_prompt:
            return TokenizedText(ids, 0)
        length = next((i for i, (_, end) in enumerate(offsets) if end > len(prompt)), len(ids))
        if length == len(ids):
            raise UserError(
                f"the prompt {prompt!r} fills all of max_tokens={max_tokens}, or the text is blank; "
                "raise tasks.<task>.max_query_tokens / max_document_tokens or shorten the instruction"
            )
        return TokenizedText(ids, length)

    def boundary_is_clean(self) -> bool:
        """True if no token straddles prompt and text, so that counting the prompt's tokens alone is exact."""
        prompt = self.template.prompt("Retrieve")
        alone = len(self.hf(prompt, add_special_tokens=False)["input_ids"])
        for probe in _PROBES:
            encoding = self.hf(prompt + probe, add_special_tokens=False, return_offsets_mapping=True)
            first = next(i for i, (_, end) in enumerate(encoding["offset_mapping"]) if end > len(prompt))
            if first != alone:
                return False
        return True

    def _keep_prompt_apart(self) -> None:
        backend: Tokenizer = self.hf.backend_tokenizer
        before = backend.pre_tokenizer
        if before is None or not self.template.tail or self.boundary_is_clean():
            return
        split = pre_tokenizers.Split(self.template.tail, behavior="isolated")
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, before])
        if not self.boundary_is_clean():
            backend.pre_tokenizer = before  # offsets stay exact; the export refuses to promise equality


def _append_eos(tokenizer: PreTrainedTokenizerFast) -> None:
    """Make the tokenizer end every text with EOS, also a cut one: last-token pooling needs it."""
    if tokenizer.eos_token is None:
        raise UserError(
            "model.append_eos=true, but the tokenizer has no EOS token; set model.append_eos=false"
        )
    if tokenizer("a")["input_ids"][-1] == tokenizer.eos_token_id:
        return
    backend: Tokenizer = tokenizer.backend_tokenizer
    template = processors.TemplateProcessing(
        single="$A " + tokenizer.eos_token, special_tokens=[(tokenizer.eos_token, tokenizer.eos_token_id)]
    )
    before = backend.post_processor
    backend.post_processor = processors.Sequence([before, template]) if before else template
