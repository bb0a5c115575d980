"""The work that all contenders of a benchmark do: the texts, the model, and how many flops they are."""

import json
import math
import random
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from data_prep.tokenizer import train_tokenizer

SCALE = 50.0  # of the peer's loss; temperature 0.02 of ours
_ROOT = Path(__file__).parents[2]
_TOKENIZER = _ROOT / "data" / "builtin" / "tokenizer"
# The most frequent characters of written Chinese, most frequent first: one token each, as in real passages.
_CHARACTERS = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事"
    "成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已"
    "工使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信"
    "表化老给世位次度门任常先海通教儿原东声提立及比员解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才"
    "结反受目太量再感建务做接必场件计管期市直德资命山金指克许统区保至队形社便空决治展马科司五基眼书非则听白却界达光放强即像"
)


@dataclass
class Job:
    """What one run is; written to job.json, so that all contenders read the same.

    Lengths of texts are lognormal, in characters; a character is a token.
    """

    title: str
    pairs: int  # queries a step
    steps: int  # in all, warm-up included
    negatives: int = 0  # hard negatives a query, 0 or 1
    median_length: float = 175.0
    sigma: float = 0.787
    max_tokens: int = 512
    hidden_size: int = 320
    num_layers: int = 7
    attention_dropout: float = 0.0
    hidden_dropout: float = 0.0
    learning_rate: float = 5e-5
    seed: int = 0
    device: str = "cpu"

    @property
    def texts(self) -> int:
        """Texts a step."""
        return self.pairs * self.texts_per_row

    @property
    def texts_per_row(self) -> int:
        """Query, positive and hard negatives."""
        return 2 + self.negatives


def make_rows(job: Job) -> list[list[str]]:
    """Rows of (query, positive, negatives), Chinese-like sentences of frequent characters."""
    rng = random.Random(job.seed)
    weights = [1 / (rank + 10) for rank in range(len(_CHARACTERS))]

    def passage() -> str:
        length = max(4, round(rng.lognormvariate(math.log(job.median_length), job.sigma)))
        text = ""
        while len(text) < length:
            text += "".join(rng.choices(_CHARACTERS, weights, k=rng.randint(5, 18))) + rng.choice(",,。")
        return text[:length]

    return [[passage() for _ in range(job.texts_per_row)] for _ in range(job.steps * job.pairs)]


def write_folder(job: Job, folder: Path) -> None:
    """Save the start: model with random weights, tokenizer, texts, job."""
    rows = make_rows(job)
    tokenizer = _tokenizer(rows)
    torch.manual_seed(job.seed)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=job.hidden_size,
        num_hidden_layers=job.num_layers,
        num_attention_heads=job.hidden_size // 64,
        intermediate_size=4 * job.hidden_size,
        max_position_embeddings=job.max_tokens,
        pad_token_id=tokenizer.pad_token_id,
        attention_probs_dropout_prob=job.attention_dropout,
        hidden_dropout_prob=job.hidden_dropout,
    )
    BertModel(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    (folder / "texts.json").write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
    (folder / "job.json").write_text(json.dumps(asdict(job)), "utf-8")


def read_folder(folder: Path) -> tuple[Job, list[list[str]]]:
    """The job and its texts, as the other process wrote them."""
    return Job(**json.loads((folder / "job.json").read_text("utf-8"))), json.loads(
        (folder / "texts.json").read_text("utf-8")
    )


def _tokenizer(rows: list[list[str]]) -> PreTrainedTokenizerFast:
    if _TOKENIZER.is_dir():
        return AutoTokenizer.from_pretrained(_TOKENIZER)
    with tempfile.TemporaryDirectory() as folder:
        train_tokenizer([text for row in rows for text in row], Path(folder))
        return AutoTokenizer.from_pretrained(folder)


@dataclass
class Cost:
    """What the steps of a job must do at least, and what they are when every column is padded."""

    tokens: list[int]  # useful tokens of each step
    flops: list[float]  # of each step
    padded_tokens: int  # of all steps
    padded_flops: float
    parameters: int
    body_parameters: int  # those multiplied with every token: without embeddings and pooler

    @property
    def useful_share(self) -> float:
        """Share of the padded tokens that is not padding."""
        return sum(self.tokens) / self.padded_tokens

    @property
    def padding_factor(self) -> float:
        """Flops with padding over flops without: the speed-up if nothing else differed."""
        return self.padded_flops / sum(self.flops)


def token_lengths(job: Job, folder: Path) -> Int[Tensor, "P B C"]:
    """Tokens of every text: steps (P), pairs (B), columns (C)."""
    _, rows = read_folder(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    encoded = tokenizer([text for row in rows for text in row], truncation=True, max_length=job.max_tokens)
    lengths = torch.tensor([len(ids) for ids in encoded["input_ids"]])
    return lengths.view(job.steps, job.pairs, job.texts_per_row)


def cost(job: Job, folder: Path) -> Cost:
    """Count a training step.

    6 flops per parameter and token, 2 forward and 4 backward, and 12 x length^2 x width per sequence and
    layer for attention. The recomputation inside SDPA's backward pass is the implementation's own affair and
    is not counted, nor is that of chunks.
    """
    lengths_PBC = token_lengths(job, folder)
    padded_PBC = lengths_PBC.amax(dim=1, keepdim=True).expand_as(lengths_PBC)
    model = BertModel.from_pretrained(folder / "model")
    body = sum(p.numel() for p in model.encoder.parameters())

    def flops(lengths: Tensor) -> Tensor:
        squares = (lengths**2).sum(dim=(1, 2))
        return 6.0 * body * lengths.sum(dim=(1, 2)) + 12.0 * job.hidden_size * job.num_layers * squares

    return Cost(
        tokens=lengths_PBC.sum(dim=(1, 2)).tolist(),
        flops=flops(lengths_PBC).tolist(),
        padded_tokens=int(padded_PBC.sum()),
        padded_flops=float(flops(padded_PBC).sum()),
        parameters=sum(p.numel() for p in model.parameters()),
        body_parameters=body,
    )
