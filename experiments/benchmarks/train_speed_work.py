"""The work that both sides of train_speed.py do: the texts, the model, and how many flops they are."""

import json
import random
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

MAX_TOKENS = 512
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
    """What one run is; written to job.json, so both sides read the same."""

    title: str
    pairs: int  # queries a step
    negatives: int  # hard negatives a query, 0 or 1
    steps: int  # in all, warm-up included
    hidden_size: int
    num_layers: int
    attention_dropout: float = 0.0
    hidden_dropout: float = 0.0
    bf16: bool = False
    learning_rate: float = 5e-5
    seed: int = 0

    @property
    def texts(self) -> int:
        """Texts a step."""
        return self.pairs * self.texts_per_row

    @property
    def texts_per_row(self) -> int:
        """Query, positive and hard negatives."""
        return 2 + self.negatives


def make_rows(job: Job) -> list[list[str]]:
    """Rows of (query, positive, negatives): passages of median 175, 90th percentile 480 characters."""
    rng = random.Random(job.seed)
    weights = [1 / (rank + 10) for rank in range(len(_CHARACTERS))]

    def passage() -> str:
        length = max(4, round(rng.lognormvariate(5.165, 0.787)))
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
        max_position_embeddings=MAX_TOKENS,
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
    sys.path.append(str(_ROOT))
    from data_prep.tokenizer import train_tokenizer

    with tempfile.TemporaryDirectory() as folder:
        train_tokenizer([text for row in rows for text in row], Path(folder))
        return AutoTokenizer.from_pretrained(folder)


@dataclass
class Cost:
    """What the steps of a job must do at least."""

    tokens: list[int]  # useful tokens of each step
    padded_tokens: list[int]  # the same in the peer's batches: one rectangle for each column
    flops: list[float]  # of each step
    parameters: int
    body_parameters: int  # those multiplied with every token: without embeddings and pooler


def cost(job: Job, folder: Path) -> Cost:
    """Count: 6 flops per parameter and token, 12 x length^2 x width per sequence and layer for attention.

    6 = 2 forward + 4 backward. The recomputation inside SDPA's backward pass is the implementation's own
    affair and is not counted.
    """
    _, rows = read_folder(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    encoded = tokenizer([text for row in rows for text in row], truncation=True, max_length=MAX_TOKENS)
    lengths = torch.tensor([len(ids) for ids in encoded["input_ids"]])
    lengths_PBC = lengths.view(job.steps, job.pairs, job.texts_per_row)
    model = BertModel.from_pretrained(folder / "model")
    body = sum(p.numel() for p in model.encoder.parameters())
    tokens = lengths_PBC.sum(dim=(1, 2))
    squares = (lengths_PBC**2).sum(dim=(1, 2))
    flops = 6.0 * body * tokens + 12.0 * job.hidden_size * job.num_layers * squares
    padded = lengths_PBC.amax(dim=1).sum(dim=1) * job.pairs
    total = sum(p.numel() for p in model.parameters())
    return Cost(tokens.tolist(), padded.tolist(), flops.tolist(), total, body)
