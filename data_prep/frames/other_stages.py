"""The frames files of the other stages: raw text, paraphrases, and three more kinds of fine-tuning data."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.frames.eval_sets import labelled, pair_classification, reranking
from data_prep.frames.grammar import load_grammar
from data_prep.frames.meaning import Meaning
from data_prep.frames.sampler import Sampler
from data_prep.frames.train_sets import INSTRUCTION_IR, INSTRUCTION_STS, OTHER
from data_prep.held_out import HeldOut
from data_prep.records import Record, raw_text, retrieval, scored_pair, write_jsonl

INSTRUCTION_CLASSIFICATION = "Given a text, retrieve the intent it expresses"
RAW = ("lm", "pairs")  # of the other stages
TASKS = ("classification", "pair_classification", "reranking")  # of data=builtin_all
NUM_OTHER_LABELS = 4  # hard negatives of a labelled text: intents of the same domain


@dataclass(frozen=True)
class ExtraSizes:
    """Records of each file."""

    lm: int = 30_000
    pairs: int = 30_000
    classification: int = 6_000
    pair_classification: int = 6_000
    reranking: int = 3_000


def build_frames_extra(
    out: Path, seed: int = 0, size: ExtraSizes | None = None, names: Sequence[str] = (*RAW, *TASKS)
) -> dict[str, int]:
    """Write train/frames_NAME.jsonl for each of `names`; return their sizes.

    All from training templates and values; a text of the evaluation sets under `out` stops the build.
    """
    size = size or ExtraSizes()
    frames = load_grammar()
    makers: dict[str, Callable[[Sampler, int], Iterator[Record]]] = {
        "lm": raw_texts,
        "pairs": paraphrases,
        "classification": classified,
        "pair_classification": judged_pairs,
        "reranking": ranked,
    }

    def sampler(name: str) -> Sampler:
        return Sampler(frames, "train", f"{seed}/train/{name}")

    files = {f"frames_{name}": list(makers[name](sampler(name), getattr(size, name))) for name in names}
    held_out = HeldOut.of(out, "Frames*")
    for name, records in files.items():
        held_out.check(name, records)
    for name, records in files.items():
        write_jsonl(out / "train" / f"{name}.jsonl", records)
    return {f"train/{name}.jsonl": len(records) for name, records in files.items()}


def raw_texts(sampler: Sampler, count: int) -> Iterator[Record]:
    """Yield distinct texts of all frames, languages and kinds, without anything that tells their meaning."""
    for number in range(count):
        text = None
        while text is None:
            form = (("zh", "en")[number % 2], sampler.rng.choice(("short", "passage")))
            text = sampler.text(sampler.meaning(), *form, avoid=sampler.used_texts)
        yield raw_text(text)


def paraphrases(sampler: Sampler, count: int) -> Iterator[Record]:
    """Yield a text and one other text of its meaning, in either language and of either kind."""
    number = 0
    while number < count:
        meaning, language = sampler.meaning(), sampler.rng.choice(("zh", "en"))
        query = sampler.text(meaning, language, avoid=sampler.used_texts)
        if query is None:
            continue
        spoken = OTHER[language] if sampler.rng.random() < 0.3 else language
        positive = sampler.text(
            meaning, spoken, sampler.rng.choice(("short", "passage")), avoid=[query], unlike=[query]
        )
        if positive is not None:
            number += 1
            yield retrieval(INSTRUCTION_IR, query, [positive], [])


def classified(sampler: Sampler, count: int) -> Iterator[Record]:
    """Yield a text with its intent as the positive, and other intents of its domain as hard negatives."""
    by_domain: dict[str, list[str]] = {}
    for frame in sampler.frames:
        by_domain.setdefault(frame.domain, []).append(frame.name)

    def intent(meaning: Meaning) -> str:
        return meaning.frame.name

    for row in labelled(sampler, count, intent):
        others = [name for name in by_domain[row["label"].split(".")[0]] if name != row["label"]]
        negatives = sampler.rng.sample(others, min(NUM_OTHER_LABELS, len(others)))
        yield retrieval(
            INSTRUCTION_CLASSIFICATION, row["text"], [_label(row["label"])], [_label(n) for n in negatives]
        )


def judged_pairs(sampler: Sampler, count: int) -> Iterator[Record]:
    """Yield pairs of one meaning, scored 1, and pairs that differ in one thing, scored 0."""
    for row in pair_classification(sampler, count)["pairs"]:
        yield scored_pair(INSTRUCTION_STS, row["sentence1"], row["sentence2"], float(row["label"]))


def ranked(sampler: Sampler, count: int) -> Iterator[Record]:
    """Yield queries with ten candidates each: those of the query's meaning, and others that come close."""
    sets = reranking(sampler, count)
    text_of = {row["id"]: row["text"] for row in sets["corpus"]}
    relevant: dict[str, list[str]] = {}
    for row in sets["qrels"]:
        relevant.setdefault(row["query_id"], []).append(row["corpus_id"])
    for query, candidates in zip(sets["queries"], sets["top_ranked"], strict=True):
        good = relevant[query["id"]]
        bad = [name for name in candidates["corpus_ids"] if name not in good]
        yield retrieval(INSTRUCTION_IR, query["text"], [text_of[n] for n in good], [text_of[n] for n in bad])


def _label(frame: str) -> str:
    """`bank.transfer_arrival` in words."""
    return frame.replace(".", ": ").replace("_", " ")
