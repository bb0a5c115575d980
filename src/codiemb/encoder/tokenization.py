"""From (instruction, text) to token ids and the exact number of leading prompt tokens that are not pooled."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tokenizers import Regex, Tokenizer, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from codiemb.encoder.tokenizer_parts import append_eos as end_with_eos
from codiemb.errors import UserError
from codiemb.text_encoder import Side

_INSTRUCTION = "{instruction}"
_BRACES = re.compile(r"\{\w*\}")  # {task}, {query}, {}: placeholders of other programs
_PROBES = ("a", "A word", "1", "你好", "été", "?")
_ANYTHING = "☃"  # survives every normalizer; stands for the instruction in a pattern


@dataclass(frozen=True)
class PromptTemplate:
    """What stands before a text. Prompts are prefixes only: all that sentence-transformers can store.

    Its side decides which prompt a text gets, and for a template with `{instruction}` its instruction:

    - A template with `{instruction}` (Qwen3-Embedding, CoDiEmb) is filled in for every text that has an
      instruction. A query without one has `instruction` in its place, or no prompt if that is empty; a
      document without one has the document's prompt; a text of a symmetric task without one has none.
    - A fixed `query` prompt (E5, BGE) stands before every query, with an instruction or without, and
      `document` before every document. Texts of a symmetric task (STS, classification, clustering) have the
      query's prompt if they have an instruction, or if documents have a prompt of their own (E5: "query: "
      for symmetric tasks); else none (BGE, Arctic: a prompt for searching, which they leave out there).

    Raises:
        UserError: `{instruction}` stands in `query` more than once, or in `document`; another name in braces,
            which nobody fills in, stands in one of them; or `instruction` has no place in `query`.
    """

    query: str = "Instruction: {instruction} \nQuery: "
    document: str = ""
    instruction: str = ""

    def __post_init__(self) -> None:
        if self.query.count(_INSTRUCTION) > 1:
            raise UserError(f"model.prompt.query={self.query!r} contains {_INSTRUCTION} more than once")
        if _INSTRUCTION in self.document:
            raise UserError(
                f"model.prompt.document={self.document!r}: documents have no instruction, and {_INSTRUCTION} "
                "would stand there as it is"
            )
        for key, prompt in (("query", self.query), ("document", self.document)):
            if other := _BRACES.search(prompt.replace(_INSTRUCTION, "")):
                raise UserError(
                    f"model.prompt.{key}={prompt!r}: {other[0]} would stand there as it is; what is filled "
                    f"in is {_INSTRUCTION}, and the text follows the prompt"
                )
        if self.instruction and _INSTRUCTION not in self.query:
            raise UserError(
                f"model.prompt.instruction={self.instruction!r} stands in for {_INSTRUCTION}, and "
                f"model.prompt.query={self.query!r} does not hold it"
            )

    def prompt(self, instruction: str = "", side: Side | None = None) -> str:
        """The literal prefix of a text.

        Args:
            instruction: its own; "" means none.
            side: None takes a text with an instruction for a query, and one without for a document.
        """
        side = side or ("query" if instruction else "document")
        if _INSTRUCTION in self.query:
            return self._filled(instruction, side)
        if side == "text":
            side = "query" if instruction or self.document else "document"
        return self.query if side == "query" else self.document

    def describe(self) -> str:
        """Which prefix stands before which texts, in one line."""
        texts = "texts with an instruction" if _INSTRUCTION in self.query else "queries"
        if self.instruction:
            texts += f" (queries without one: {self.instruction!r})"
        prompts = ((self.query, texts), (self.document, "documents"))
        named = [f"{prompt!r} before {where}" for prompt, where in prompts if prompt]
        return f"prompts: {', '.join(named)}" if named else "no prompts"

    def _filled(self, instruction: str, side: Side) -> str:
        if not instruction and side == "document":
            return self.document
        instruction = instruction or (self.instruction if side == "query" else "")
        return self.query.replace(_INSTRUCTION, instruction) if instruction else ""


class TokenizedText(NamedTuple):
    """Token ids of prompt + text, and how many of them belong to the prompt."""

    input_ids: list[int]
    prompt_length: int


class Window(NamedTuple):
    """A stretch of a raw text, and which of its tokens are text, not special tokens."""

    input_ids: list[int]
    is_text: list[bool]


class TextTokenizer:
    """Tokenises prompt and text as one string, and finds where the text begins by character offsets.

    Counting the tokens of the prompt alone is wrong where a token straddles the boundary (byte-level BPE
    glues the prompt's last space to the first word). sentence-transformers counts that way, so where the
    tokenizer would straddle, its pre-tokenizer is told to keep a prompt at the start of a text apart: then
    both ways agree, and a word has the same tokens after a prompt as at the start of a document. A model that
    was trained on the straddling tokens keeps them, and that count, with `prompt_apart=False`.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        template: PromptTemplate,
        *,
        pool_prompt: bool = False,
        prompt_apart: bool = True,
        append_eos: bool = False,
        max_positions: int | None = None,
    ) -> None:
        self.hf = tokenizer
        self.template = template
        self.pool_prompt = pool_prompt
        self.prompt_apart = prompt_apart
        self.append_eos = append_eos
        self.max_positions = max_positions
        if append_eos:
            end_with_eos(tokenizer)
        if not pool_prompt and prompt_apart:
            self._keep_prompt_apart()

    def __call__(
        self,
        texts: Sequence[tuple[str, str]],
        max_tokens: int,
        side: Side | Sequence[Side | None] | None = None,
    ) -> list[TokenizedText]:
        """Tokenise (instruction, text) pairs, cut at `max_tokens` (prompt and special tokens included).

        `side` is that of all texts, or one for each (PromptTemplate.prompt).

        The model's own number of positions caps `max_tokens`: beyond it there is nothing to look up.
        Every text has a token to pool: a blank one has the special tokens after the prompt, or else one
        EOS or padding token. Evaluation sets hold blank texts, and must not end in an error or a NaN.

        Raises:
            UserError: the prompt alone fills `max_tokens`, so nothing of a text would be left.
        """
        max_tokens = min(max_tokens, self.max_positions or max_tokens)
        sides = [side] * len(texts) if side is None or isinstance(side, str) else side
        prompts = [self.template.prompt(pair[0], one) for pair, one in zip(texts, sides, strict=True)]
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

    def windows(self, text: str, max_tokens: int) -> list[Window]:
        """A raw text, without prompt, in consecutive windows of at most `max_tokens` tokens.

        Each has the special tokens that the tokenizer puts around a text. A text without any token has one
        window of an EOS or padding token.

        Raises:
            UserError: the special tokens alone fill `max_tokens`.
        """
        max_tokens = min(max_tokens, self.max_positions or max_tokens)
        if max_tokens <= self.hf.num_special_tokens_to_add():
            raise UserError(
                f"tasks.lm.max_document_tokens={max_tokens} leaves no room for a token of the text"
            )
        encodings = self.hf(
            text,
            truncation=True,
            max_length=max_tokens,
            return_overflowing_tokens=True,
            return_special_tokens_mask=True,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        rows = zip(encodings["input_ids"], encodings["special_tokens_mask"], strict=True)
        windows = [Window(ids, [not special for special in mask]) for ids, mask in rows if ids]
        return windows or [Window([self._blank_id()], [False])]

    @property
    def mask_id(self) -> int:
        """What stands in for a masked token: the tokenizer's mask, or else "_", as in LLM2Vec.

        Raises:
            UserError: the tokenizer has neither.
        """
        if self.hf.mask_token_id is not None:
            return self.hf.mask_token_id
        ids = self.hf("_", add_special_tokens=False)["input_ids"]
        if len(ids) != 1 or ids[0] == self.hf.unk_token_id:
            raise UserError(
                'the tokenizer has no mask token, and "_" is not one token of it: masked prediction needs '
                "one. tasks.lm.mask_share=null with model.attention=causal predicts every next token instead"
            )
        return ids[0]

    def _tokenized(
        self, ids: list[int], offsets: list[tuple[int, int]], prompt: str, max_tokens: int
    ) -> TokenizedText:
        if not prompt or self.pool_prompt:
            return TokenizedText(ids or [self._blank_id()], 0)
        length = next((i for i, (_, end) in enumerate(offsets) if end > len(prompt)), len(ids))
        if length < len(ids):
            return TokenizedText(
                ids, length if self.prompt_apart else min(self._counted(prompt), len(ids) - 1)
            )
        if len(ids) >= max_tokens:
            raise UserError(
                f"the prompt {prompt!r} fills all of max_tokens={max_tokens}; "
                "raise tasks.<task>.max_query_tokens / max_document_tokens or shorten the instruction"
            )
        length = max((i for i, (_, end) in enumerate(offsets, start=1) if end > 0), default=0)
        return TokenizedText(ids if length < len(ids) else [*ids, self._blank_id()], length)

    @functools.lru_cache(maxsize=1024)  # noqa: B019  a tokenizer lives as long as the run
    def _counted(self, prompt: str) -> int:
        """The tokens of a prompt alone, less a special one at its end: sentence-transformers' own count."""
        ids = self.hf(prompt)["input_ids"]
        return len(ids) - (ids[-1] in self.hf.all_special_ids)

    def _blank_id(self) -> int:
        known = (self.hf.eos_token_id, self.hf.sep_token_id, self.hf.pad_token_id)
        return next((token_id for token_id in known if token_id is not None), 0)

    def boundary_is_clean(self, *instructions: str) -> bool:
        """True if no token straddles prompt and text, so that counting the prompt's tokens alone is exact.

        Checked for the prompts of documents and of queries with these `instructions`, or an example.
        """
        examples = instructions or (self.template.instruction or "Retrieve",)
        prompts = [self.template.prompt(), *(self.template.prompt(example, "query") for example in examples)]
        return all(self._ends_cleanly(prompt) for prompt in prompts if prompt)

    def _ends_cleanly(self, prompt: str) -> bool:
        alone = len(self.hf(prompt, add_special_tokens=False)["input_ids"])
        for probe in _PROBES:
            encoding = self.hf(prompt + probe, add_special_tokens=False, return_offsets_mapping=True)
            ends = [end for _, end in encoding["offset_mapping"]]
            first = next(
                (i for i, end in enumerate(ends) if end > len(prompt)), len(ends)
            )  # may drop a probe
            if first != alone:
                return False
        return True

    def _keep_prompt_apart(self) -> None:
        backend: Tokenizer = self.hf.backend_tokenizer
        before = backend.pre_tokenizer
        if self.boundary_is_clean():
            return
        split = pre_tokenizers.Split(Regex(self._prompt_pattern()), behavior="isolated")
        backend.pre_tokenizer = split if before is None else pre_tokenizers.Sequence([split, before])
        if not self.boundary_is_clean():
            backend.pre_tokenizer = before  # offsets stay exact; load_encoder warns about the export

    def _prompt_pattern(self) -> str:
        """A whole prompt at the start of a text, spelled as the tokenizer's normalizer leaves it.

        Anchored, because a prompt may end in ": " or " ", and texts must not be split at each of those.
        """
        prompts = [self.template.query.replace(_INSTRUCTION, _ANYTHING), self.template.document]
        normalizer = self.hf.backend_tokenizer.normalizer
        if normalizer is not None:
            prompts = [normalizer.normalize_str(prompt) for prompt in prompts]
        literals = [re.escape(prompt).replace(_ANYTHING, r"[\s\S]*?") for prompt in prompts if prompt]
        return rf"\A(?:{'|'.join(literals)})"
