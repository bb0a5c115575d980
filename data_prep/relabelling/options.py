"""The options of `relabel`, and which of them go together."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codiemb.errors import UserError
from data_prep.endpoint.options import EndpointOptions
from data_prep.options import option
from data_prep.relabelling.asking import read_prompt
from data_prep.relabelling.verdicts import Bounds
from data_prep.search.fingerprint import folder_hashes


@dataclass(frozen=True)
class Parameters(EndpointOptions):
    """Who judges, and from which score on; the endpoint's are those of every step that asks a model."""

    negatives: list[str] = option([], "scorers whose chosen candidates are judged (default: all)")
    judge: str = option("", "the cheap judge: a cross-encoder's folder or hub name")
    judge_scores: str = option("", "or a scorer whose scores are there already")
    negative_below: float | None = option(None, "the cheap judge says negative below this score")
    positive_from: float | None = option(None, "and positive from this one on; what is between is unsure")
    strong: str = option("", "the strong judge: a cross-encoder (or a language model: --endpoint, --model)")
    strong_scores: str = option("", "or a scorer whose scores are there already")
    strong_negative_below: float | None = option(None, "likewise, of these")
    strong_positive_from: float | None = option(None, "likewise; what is between is dropped")
    prompt: str = option("en", "what the language model is asked: en, zh, or FILE.yaml with prompt: TEXT")
    check_share: float = option(0.0, "share of the sure pairs that the strong judge is asked about, too")
    num_known: int = option(
        200, "pairs that qrels judge, half right and half wrong, to compare the judges with"
    )
    seed: int = option(0, "of what is drawn")
    device: str = option("cpu", "cpu or cuda, of cross-encoders")
    cache: str = option("data/embeddings", "cross-encoders' scores are kept here and used again")
    temperature: float | None = option(0.0, "of sampling; null leaves it to the server")
    max_answer_tokens: int | None = option(256, "an answer is cut here; null sends no limit")

    @property
    def asks_a_model(self) -> bool:
        """Whether the strong judge is a language model."""
        return bool(self.endpoint or self.model)

    def cheap_bounds(self) -> Bounds:
        """Of the cheap judge.

        Raises:
            UserError: one is missing, or they contradict each other.
        """
        return _bounds(self.negative_below, self.positive_from, "negative_below", "positive_from")

    def strong_bounds(self) -> Bounds:
        """Of the strong cross-encoder.

        Raises:
            UserError: likewise.
        """
        names = "strong_negative_below", "strong_positive_from"
        return _bounds(self.strong_negative_below, self.strong_positive_from, *names)


def _bounds(low: float | None, high: float | None, low_name: str, high_name: str) -> Bounds:
    if low is None or high is None:
        missing = (low_name if low is None else high_name).replace("_", "-")
        raise UserError(
            f"relabel: --{missing} X is missing: below one score it is negative, from another on positive. "
            "relabel.html shows what scores judged pairs have; begin with any two"
        )
    bounds = Bounds(low, high)
    bounds.check(low_name, high_name)
    return bounds


def depends_on(options: Parameters) -> Mapping[str, Any]:
    """Hashes of the models' files and of the prompt; refuses options that do not go together.

    Raises:
        UserError: naming them.
    """
    if options.judge and options.judge_scores:
        raise UserError("relabel: --judge and --judge-scores are two cheap judges; give one")
    strong = [options.strong, options.strong_scores, options.asks_a_model]
    if sum(map(bool, strong)) > 1:
        raise UserError(
            "relabel: --strong, --strong-scores, and --endpoint with --model are several strong judges; "
            "give one"
        )
    if not (options.judge or options.judge_scores or any(strong)):
        raise UserError(
            "relabel: nobody judges; give --judge FOLDER (a cross-encoder) or --judge-scores NAME, and for "
            "the unsure --strong FOLDER, or --endpoint ADDRESS with --model NAME"
        )
    if options.judge or options.judge_scores:
        options.cheap_bounds()
    if options.strong or options.strong_scores:
        options.strong_bounds()
    if not 0 <= options.check_share <= 1 or options.num_known < 0:
        raise UserError(
            f"relabel: check_share={options.check_share} must be in [0, 1], num_known={options.num_known} "
            "not below 0"
        )
    depends: dict[str, Any] = {}
    if options.asks_a_model:
        options.check()
        depends["prompt"] = hashlib.sha256(read_prompt(options.prompt).encode()).hexdigest()
    paths = [Path(path) for path in (options.judge, options.strong) if path]
    return depends | {str(path): folder_hashes(path) for path in paths if path.is_dir()}
