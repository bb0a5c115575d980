"""The encoder: a packed stream of texts in, one fp32 unit vector per text out."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from peft import PeftModel
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from codiemb.batch import Batch, EmbeddedBatch, PackedTexts
from codiemb.distributed import max_over_ranks
from codiemb.encoder.attention import PACKED_ATTENTION, Packing, position_ids, position_offset
from codiemb.encoder.checkpointed import checkpointed
from codiemb.encoder.fingerprint import Fingerprint, module_identity, tokenizer_identity
from codiemb.encoder.modes import encode_mode
from codiemb.encoder.pooling import PoolingMode, pool
from codiemb.encoder.rotary import rotary_per_text
from codiemb.encoder.stream import first_text, pack_texts, split_by_tokens
from codiemb.encoder.tokenization import TextTokenizer
from codiemb.take_rows import take_rows
from codiemb.text_encoder import Side

AttentionMode = Literal["bidirectional", "causal"]
Backbone = PreTrainedModel | PeftModel  # the second wraps the first and hands attributes through


class HiddenStates(NamedTuple):
    """Token states of a packed stream: of the last layer and, if asked for, of an inner one."""

    last_TD: Float[Tensor, "T D"]
    middle_TD: Float[Tensor, "T D"] | None


class Embeddings(NamedTuple):
    """Unit vectors per sequence: from the last layer and, if asked for, from an inner one."""

    last_SD: Float[Tensor, "S D"]
    middle_SD: Float[Tensor, "S D"] | None


class Encoder(nn.Module):
    """Backbone, pooling and normalisation (docs/method.md section 4).

    The forward pass is packed: all texts lie in one row without padding. A backbone whose attention does not
    go through transformers' AttentionInterface is run padded instead (`packed=False`); `load_encoder` finds
    out by comparing the two on the real model.

    Args:
        backbone: a transformers model that returns hidden states.
        tokenizer: tokenisation and prompts of this model.
        pooling: `mean` (over the text, not the prompt), `cls` or `last_token`.
        attention: `bidirectional` or `causal`.
        max_tokens: longest text in tokens, prompt included, for `encode`.
        middle_layer: also embed from `hidden_states[middle_layer]` (0 is the token embedding).
        packed: run unpadded.
        max_tokens_per_chunk: train in chunks of at most so many tokens, all but the last in an activation
            checkpoint: memory depends on this budget, not on the batch, at up to 4/3 of the time.

    Attributes:
        encode_precision: of `encode`: `bf16-mixed` and `16-mixed` compute it under autocast, which is faster
            on a card and on a CPU with instructions for bf16, and moves a vector by about 1e-4 of a cosine.
    """

    def __init__(
        self,
        backbone: Backbone,
        tokenizer: TextTokenizer,
        *,
        pooling: PoolingMode = "mean",
        attention: AttentionMode = "bidirectional",
        max_tokens: int = 512,
        middle_layer: int | None = None,
        packed: bool = True,
        max_tokens_per_chunk: int | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.pooling: PoolingMode = pooling
        self.attention: AttentionMode = attention
        self.max_tokens = max_tokens
        self.middle_layer = middle_layer
        self.packed = packed
        self.max_tokens_per_chunk = max_tokens_per_chunk
        self.encode_precision = "32-true"
        self._position_offset = position_offset(backbone)
        self._rotaries = rotary_per_text(backbone)
        self._padded_attention: str = backbone.config._attn_implementation

    def forward(self, texts: PackedTexts) -> Embeddings:
        """Embed every sequence of a packed stream, in chunks if there is a token budget.

        Chunks are gradient caching without a second loop (experiments/LOG.md): the loss sees all embeddings,
        its backward pass recomputes one chunk at a time with the same dropout, and the gradient is that of
        the whole batch with one reduction over ranks.
        """
        if self.max_tokens_per_chunk is None or not torch.is_grad_enabled():
            return self._embeddings(texts)
        chunks = self._chunks(texts, self.max_tokens_per_chunk)
        parts = checkpointed(self._embeddings, [(chunk,) for chunk in chunks])
        num_texts = len(texts.sequence_lengths)
        middle = [part.middle_SD for part in parts if part.middle_SD is not None]
        return Embeddings(
            torch.cat([part.last_SD for part in parts])[-num_texts:],
            torch.cat(middle)[-num_texts:] if middle else None,
        )

    def _embeddings(self, texts: PackedTexts) -> Embeddings:
        hidden = self.hidden_states(texts)
        device = hidden.last_TD.device
        lengths_S = torch.tensor(texts.sequence_lengths, device=device)
        prompts_S = torch.tensor(texts.prompt_lengths, device=device)

        def unit(hidden_TD: Tensor) -> Tensor:
            with torch.autocast(device.type, enabled=False):
                return F.normalize(pool(hidden_TD, lengths_S, prompts_S, self.pooling), dim=-1)

        middle = None if hidden.middle_TD is None else unit(hidden.middle_TD)
        return Embeddings(unit(hidden.last_TD), middle)

    def _chunks(self, texts: PackedTexts, max_tokens: int) -> list[PackedTexts]:
        """The stream in chunks, after further ones whose results nobody uses where another rank has more.

        FSDP and ZeRO-3 gather weights in every pass, so all ranks must make equally many, or wait for ever: a
        rank with fewer chunks runs its first text (the shortest) again. The chunks are filled from the end
        because the last one is cheapest (`checkpointed`).
        """
        chunks = list(split_by_tokens(texts, max_tokens))
        num_chunks = max_over_ranks(len(chunks), texts.input_ids_T.device)
        # its gradient is dropped: `forward` cuts these rows off again
        return [first_text(texts)] * (num_chunks - len(chunks)) + chunks

    def embed(self, batch: Batch) -> EmbeddedBatch:
        """Encode a batch's unique texts once and hand every query and document its row."""
        rows = self(batch.texts)
        query_B, document_N = batch.query_sequence_B, batch.document_sequence_N
        middle = rows.middle_SD
        return EmbeddedBatch(
            query_BD=take_rows(rows.last_SD, query_B),
            document_ND=take_rows(rows.last_SD, document_N),
            groups=batch.groups,
            middle_query_BD=None if middle is None else take_rows(middle, query_B),
            middle_document_ND=None if middle is None else take_rows(middle, document_N),
        )

    def token_states(self, texts: PackedTexts, position_P: Int[Tensor, " P"]) -> Float[Tensor, "P D"]:
        """Last-layer states at ascending places of the stream, in chunks as in `forward`.

        Of a chunk only the states asked for are kept.
        """
        if self.max_tokens_per_chunk is None or not torch.is_grad_enabled():
            return self.hidden_states(texts).last_TD[position_P]

        def states(chunk: PackedTexts, position_p: Tensor) -> Tensor:
            return self.hidden_states(chunk).last_TD[position_p]

        chunks = self._chunks(texts, self.max_tokens_per_chunk)
        arguments = []
        start = len(texts.input_ids_T) - sum(len(chunk.input_ids_T) for chunk in chunks)  # the further ones
        for chunk in chunks:
            end = start + len(chunk.input_ids_T)
            arguments.append((chunk, position_P[(position_P >= start) & (position_P < end)] - start))
            start = end
        return torch.cat(checkpointed(states, arguments))

    def hidden_states(self, texts: PackedTexts) -> HiddenStates:
        """Token states of the packed stream, computed packed or padded."""
        return self._packed_states(texts) if self.packed else self._padded_states(texts)

    def _packed_states(self, texts: PackedTexts) -> HiddenStates:
        self._prepare(PACKED_ATTENTION, texts.sequence_lengths)
        ids_1T = texts.input_ids_T[None]
        packing = Packing.of(texts.sequence_lengths, ids_1T.device, causal=self.attention == "causal")
        positions_1T = position_ids(texts.sequence_lengths, ids_1T.device) + self._position_offset
        output = self.backbone(
            input_ids=ids_1T,
            position_ids=positions_1T,
            packing=packing,
            output_hidden_states=self.middle_layer is not None,
        )
        # a model that never called it has attended over the whole row, across texts, without an error
        if packing.calls == 0:
            raise RuntimeError(f"{type(self.backbone).__name__} does not use the packed attention")
        middle = None if self.middle_layer is None else output.hidden_states[self.middle_layer][0]
        return HiddenStates(output.last_hidden_state[0], middle)

    def _padded_states(self, texts: PackedTexts) -> HiddenStates:
        self._prepare(self._padded_attention, texts.sequence_lengths)
        rows = texts.input_ids_T.split(list(texts.sequence_lengths))
        pad_id = self.tokenizer.hf.pad_token_id or 0
        ids_SL = nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=pad_id)
        lengths_S = torch.tensor(texts.sequence_lengths, device=ids_SL.device)
        mask_SL = torch.arange(ids_SL.shape[1], device=ids_SL.device) < lengths_S[:, None]
        output = self.backbone(
            input_ids=ids_SL,
            attention_mask=mask_SL.long(),
            output_hidden_states=self.middle_layer is not None,
        )
        middle = None if self.middle_layer is None else output.hidden_states[self.middle_layer][mask_SL]
        return HiddenStates(output.last_hidden_state[mask_SL], middle)

    def describe(self) -> str:
        """Architecture, size and mode in one line; prompts in another."""
        total = sum(p.numel() for p in self.backbone.parameters())
        trained = sum(p.numel() for p in self.backbone.parameters() if p.requires_grad)
        mode = "packed" if self.packed else "padded"
        line = (
            f"{self.backbone.config.model_type}: {total / 1e6:,.1f}M parameters, {trained / 1e6:,.1f}M "
            f"trained, {self.attention} attention, {self.pooling} pooling, {mode}"
        )
        return f"{line}\n{self.tokenizer.template.describe()}"

    def prefix(self, instruction: str = "", side: Side | None = None) -> str:
        """The exact string that `encode` puts before a text."""
        return self.tokenizer.template.prompt(instruction, side)

    def settings(self) -> Fingerprint:
        """All that an embedding depends on but prompt and text; reads every weight, for its hash."""
        return {
            **module_identity(self.backbone),
            "tokenizer": tokenizer_identity(self.tokenizer.hf),
            "pooling": self.pooling,
            "attention": self.attention,
            "packed": self.packed,
            "pool_prompt": self.tokenizer.pool_prompt,
            "prompt_apart": self.tokenizer.prompt_apart,
            "max_tokens": min(self.max_tokens, self.tokenizer.max_positions or self.max_tokens),
            "device": next(self.backbone.parameters()).device.type,
            **({} if self.encode_precision == "32-true" else {"precision": self.encode_precision}),
        }

    def _prepare(self, attention: str, sequence_lengths: tuple[int, ...]) -> None:
        """What the coming pass needs to know; a recomputed chunk comes by here again."""
        if self.backbone.config._attn_implementation != attention:
            self.backbone.set_attn_implementation(attention)
        for rotary in self._rotaries:
            rotary.lengths = sequence_lengths

    @torch.no_grad()
    def encode(
        self,
        texts: Sequence[str],
        *,
        instruction: str = "",
        side: Side | None = None,
        max_tokens: int | None = None,
        tokens_per_batch: int | None = None,
        progress: bool = False,
    ) -> Float[np.ndarray, "S D"]:
        """Embed texts for evaluation or search: fp32, unit length, in the order given.

        `side` says what the texts are: `query`, `document` or, in a symmetric task, `text`. None takes texts
        with an instruction for queries and others for documents (PromptTemplate.prompt).

        Texts are sorted by length within windows of 8,192, so packs hold long runs of equal lengths. A pack
        has `tokens_per_batch` tokens: 16,384 on an accelerator; 4,096 on CPU, where larger activations leave
        the cache and are mapped and unmapped at every use, which costs a quarter of the time.
        """
        out_SD = np.empty((len(texts), self.backbone.config.hidden_size), dtype=np.float32)
        hidden = None if progress else True  # None: where there is no terminal
        bar = tqdm(total=len(texts), unit="text", disable=hidden, leave=False)
        with encode_mode(self, self.encode_precision), bar:
            for rows, pack in self.packs(texts, instruction, side, max_tokens, tokens_per_batch):
                out_SD[rows] = self(pack).last_SD.cpu().numpy()
                bar.update(len(rows))
        return out_SD

    def packs(
        self,
        texts: Sequence[str],
        instruction: str = "",
        side: Side | None = None,
        max_tokens: int | None = None,
        tokens_per_batch: int | None = None,
    ) -> Iterator[tuple[list[int], PackedTexts]]:
        """What `encode` runs: the rows of texts that share a forward pass, and their stream."""
        device = next(self.backbone.parameters()).device
        tokens_per_batch = tokens_per_batch or (4_096 if device.type == "cpu" else 16_384)
        for start in range(0, len(texts), 8_192):
            window = [(instruction, text) for text in texts[start : start + 8_192]]
            tokenized = self.tokenizer(window, max_tokens or self.max_tokens, side)
            order = sorted(range(len(window)), key=lambda i: len(tokenized[i].input_ids))
            stream = pack_texts([tokenized[i] for i in order], device)
            rows = iter(order)
            for pack in split_by_tokens(stream, max(tokens_per_batch, *stream.sequence_lengths)):
                yield [start + i for i in islice(rows, len(pack.sequence_lengths))], pack
