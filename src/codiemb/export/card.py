"""README.md of an export, the hub's model card: what its folder states, and what its run knows."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from codiemb.atomic import write_text
from codiemb.encoder.folder_settings import SETTINGS_FILE
from codiemb.export import consumers
from codiemb.export.onnx import why_not_onnx
from codiemb.json_files import read_json
from codiemb.tables import pipe_table

CARD_FILE = "README.md"
DEFAULT_NAME = "A CoDiEmb text encoder"
UNKNOWN_LICENCE = "unknown"  # a value that the hub knows


@dataclass(frozen=True)
class DataFile:
    """A training file. `manifest` says which data_prep manifest lay beside it, "" where there was none."""

    source: str
    file: str
    records: str
    manifest: str = ""


@dataclass(frozen=True)
class Score:
    """A task's main score, a fraction, as the hub shows it."""

    task: str
    type: str
    metric: str
    value: float
    revision: str


@dataclass(frozen=True)
class Card:
    """What a card cannot read from the folder that it lies in.

    Attributes:
        name: of the model.
        repo: where it goes on the hub, USER/NAME.
        origin: one sentence: from which weights, in which stage.
        base_model: a hub id, for the hub's family tree.
        licence: of the base, in the hub's words.
        licence_source: one sentence: where that is stated.
        matryoshka_dims: widths that were trained.
        data: training files.
        losses: by task and term, with weight and arguments.
        settings: by name; what was in effect, not what was asked for.
        results: the table of the evaluation, as Markdown; "" before it.
        scores: of the evaluation.
    """

    name: str = ""
    repo: str | None = None
    origin: str = ""
    base_model: str | None = None
    licence: str = UNKNOWN_LICENCE
    licence_source: str = ""
    matryoshka_dims: tuple[int, ...] = ()
    data: tuple[DataFile, ...] = ()
    losses: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    results: str = ""
    scores: tuple[Score, ...] = ()


def write_card(folder: Path, card: Card) -> None:
    """Write README.md into an export, over one that is there.

    Raises:
        UserError: a file of the folder is damaged.
    """
    write_text(folder / CARD_FILE, render(folder, card))


def render(folder: Path, card: Card) -> str:
    """The card. Settings, prompts and versions are read from the folder: those are in effect."""
    config = read_json(folder / "config.json", {})
    recorded = read_json(folder / SETTINGS_FILE, {})
    settings, prompts = recorded["model"], _prompts(folder)
    templates = Environment(
        loader=PackageLoader("codiemb.export", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown
    )
    return templates.get_template("card.md").render(
        metadata=_metadata(card),
        card=card,
        name=card.name or DEFAULT_NAME,
        model=card.repo or "export",
        settings=settings,
        config=config,
        width=read_json(folder / "1_Pooling" / "config.json", {})["word_embedding_dimension"],
        trusted=", trust_remote_code=True" if "auto_map" in config else "",
        pooled_prompt=settings["pooling"] != "mean" or settings["pool_prompt"],
        has_prompts=any(prompts.values()),
        infinity_loads=consumers.is_right_under_4(config, settings["attention"])
        and consumers.is_read_by_stripping(folder),
        query_prompt=_quoted(prompts["query"]),
        document_prompt=_quoted(prompts["document"]),
        named=next(iter(recorded["instructions"]), None),
        prompts=_prompt_table(prompts, recorded["instructions"]),
        has_task_prompts=len(prompts) > 2 + len(recorded["instructions"]),
        data=_table(("Source", "File", "Records", "Manifest"), [_data_row(file) for file in card.data]),
        losses=_table(("Task and term", "Loss"), card.losses.items()),
        hyper_parameters=_table(("Setting", "Value"), card.settings.items()),
        versions=consumers.supported(
            config, settings["attention"], survives_stripping=consumers.is_read_by_stripping(folder)
        ),
        onnx=why_not_onnx(config["model_type"]),
        unknown_licence=card.licence == UNKNOWN_LICENCE,
    )


def _prompts(folder: Path) -> dict[str, str]:
    prompts: dict[str, str] = read_json(folder / "config_sentence_transformers.json", {})["prompts"]
    return prompts


def _metadata(card: Card) -> str:
    """The YAML between the dashes. The hub refuses a base that is no hub id, so a local one is left out."""
    results = [
        EvalResult(
            task_type=score.type,
            dataset_type=score.task,
            dataset_name=score.task,
            dataset_revision=score.revision,
            metric_type=score.metric,
            metric_value=round(100 * score.value, 2),
        )
        for score in card.scores
    ]
    data = ModelCardData(
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        license=card.licence,
        base_model=card.base_model,
        tags=["sentence-transformers", "sentence-similarity", "feature-extraction", "codiemb"],
        model_name=card.name or DEFAULT_NAME,
        eval_results=results or None,
    )
    return str(data.to_yaml())


def _prompt_table(prompts: Mapping[str, str], of_data: Mapping[str, str]) -> str:
    """Names of one use and one prompt share a row: a benchmark has a prompt for each of its tasks."""
    rows: dict[tuple[str, str], list[str]] = {}
    first = [name for name in ("query", "document", *of_data) if name in prompts]
    for name in dict.fromkeys([*first, *prompts]):
        rows.setdefault((_use(name, of_data), prompts[name]), []).append(name)
    table = [
        (", ".join(f"`{name}`" for name in names), use, _literal(prompt))
        for (use, prompt), names in rows.items()
    ]
    return _table(("Name", "When", "Put before the text"), table)


def _use(name: str, of_data: Mapping[str, str]) -> str:
    if name in ("query", "document"):
        return f"`encode_{name}`"
    return "texts like those of this training source" if name in of_data else "mteb, by itself"


def _data_row(file: DataFile) -> tuple[str, str, str, str]:
    return file.source, f"`{file.file}`", file.records, file.manifest or "none"


def _quoted(text: str) -> str:
    """As a literal of Python; what JSON writes is one."""
    return json.dumps(text, ensure_ascii=False)


def _literal(prompt: str) -> str:
    return f"`{prompt}`" if prompt else "nothing"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return pipe_table([header, *rows], text_columns=len(header))
