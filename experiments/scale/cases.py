"""A task of one of youtu2b's stages, and what its step costs by strategy and number of cards."""

from codiemb.config.schema import TrainConfig
from codiemb.losses import InfoNCE
from experiments.scale import formulas, wire
from experiments.scale.formulas import Memory, Products, Step
from experiments.scale.inputs import (
    FP32_RATE,
    STAGES,
    Measured,
    Sizes,
    backbone,
    losses,
    measured,
    stage,
)


class Case:
    """A task of a stage, its losses, and what the model and the card are."""

    def __init__(self, cfg: TrainConfig, task: str, sizes: Sizes, card: Measured) -> None:
        self.cfg, self.task, self.sizes, self.card = cfg, task, sizes, card
        self.loss = losses(cfg)[task]
        self.products = Products.all_trained(sizes)

    @property
    def name(self) -> str:
        """As in the tables."""
        return f"{self.cfg.stage}, {self.task}"

    def step(self, cards: int, batch: int | None = None) -> Step:
        """One optimizer step."""
        return formulas.step(self.cfg, self.task, cards, batch)

    def model_flops(self, at: Step) -> float:
        """Of the encoder, nothing twice."""
        return self.products.train(at.tokens)

    def loss_flops(self, at: Step) -> float:
        """Of all terms."""
        return sum(formulas.loss_flops(term, at, self.sizes) for term in self.loss.terms.values())

    def seconds(self, at: Step) -> float:
        """Of computing, at the share that packed texts of about a chunk's tokens have reached."""
        again = formulas.recomputed(self.products, at)
        return (self.model_flops(at) + again) / (
            self.card.rate * self.card.share("packed")
        ) + self.loss_seconds(at)

    def loss_seconds(self, at: Step) -> float:
        """Language-model logits are bf16, similarities fp32."""
        rate = self.card.rate if self.task == "lm" else FP32_RATE.value
        return self.loss_flops(at) / rate

    def loss_bytes(self, at: Step) -> float:
        """Of the term that holds most: all documents, or a chunk's logits with the head's gradient."""
        if self.task == "lm":
            rows = next(iter(self.loss.terms.values())).chunk_rows
            return 4.0 * self.sizes.vocabulary * (2 * rows + self.sizes.width)
        rows = [term.chunk_rows for term in self.loss.terms.values() if isinstance(term, InfoNCE)] or [512]
        return formulas.gather_bytes(at, self.sizes, max(rows))

    def peak(self, strategy: str, at: Step) -> Memory:
        """With the loss's part."""
        return formulas.peak(strategy, self.sizes, at, self.loss_bytes(at))

    def requests(self, strategy: str, at: Step) -> list[wire.Request]:
        """Of weights, gradients and losses: bf16 under DeepSpeed (bf16-true), fp32 else (bf16-mixed)."""
        dtype = "bfloat16" if strategy.startswith("deepspeed") else "float32"
        of_weights = wire.of_weights(strategy, self.sizes, at.chunks, dtype=dtype)
        return [*of_weights, *self.of_loss(at)]

    def of_loss(self, at: Step) -> list[wire.Request]:
        """Every rank has as many documents."""
        return wire.of_loss(self.loss, [at.documents] * at.cards, self.sizes.width)


def cases() -> list[Case]:
    """All tasks of the three stages."""
    card = measured()
    found, sizes = [], {}
    for name in STAGES:
        cfg = stage(name)
        architecture = repr(cfg.model.architecture)
        if architecture not in sizes:
            sizes[architecture] = Sizes.of(backbone(cfg.model.architecture))
        found += [Case(cfg, task, sizes[architecture], card) for task in cfg.tasks if task in cfg.losses]
    return found
