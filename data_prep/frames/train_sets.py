"""The two training files: retrieval records with hard negatives, and pairs with a gold similarity."""

from collections.abc import Iterator
from dataclasses import dataclass

from data_prep.frames.meaning import Meaning, similarity
from data_prep.frames.sampler import MAX_TRIES, Sampler
from data_prep.records import Record, retrieval, scored_pair

INSTRUCTION_IR = "Given a question, retrieve passages that answer it or say the same"
INSTRUCTION_STS = "Represent the sentence for semantic similarity"
OTHER = {"zh": "en", "en": "zh"}
NUM_BINS = 12  # similarity 0, the ten tenths between, and 1
CROSS_LINGUAL_SHARE = 0.2
REWORDED_SHARE = 0.8  # of pairs, whatever their score, never come from one template


@dataclass(frozen=True)
class ScoredPair:
    """Two texts and the gold similarity of their meanings."""

    first: str
    second: str
    score: float


def ir_records(sampler: Sampler, count: int) -> Iterator[Record]:
    """Yield records: a query, 2-4 positives of its meaning, and 4-6 negatives one thing off."""
    for _ in range(count):
        yield next(record for _ in range(MAX_TRIES) if (record := _ir_record(sampler)))


def _ir_record(sampler: Sampler) -> Record | None:
    rng = sampler.rng
    meaning, language = sampler.meaning(), rng.choice(("zh", "en"))
    query = sampler.text(meaning, language, avoid=sampler.used_texts)
    if query is None:
        return None
    said = [query]
    forms = [(language, "short"), (OTHER[language], "passage"), (OTHER[language], "short")]
    rng.shuffle(forms)
    positives: list[str] = []
    for form in [(language, "passage"), *forms][: rng.randint(2, 4)]:
        text = sampler.text(meaning, *form, unlike=said)
        if text is not None:
            positives.append(text)
            said.append(text)
    negatives: list[str] = []
    for other in _nearby(sampler, meaning, rng.randint(4, 6)):
        spoken = language if rng.random() < 0.75 else OTHER[language]
        text = sampler.text(other, spoken, rng.choice(("passage", "short")), avoid=said)
        if text is not None:
            negatives.append(text)
            said.append(text)
    if len(positives) < 2 or len(negatives) < 4:
        return None
    return retrieval(INSTRUCTION_IR, query, positives, negatives, scored=True)


def _nearby(sampler: Sampler, meaning: Meaning, count: int) -> list[Meaning]:
    """Return meanings one thing off: a number or date, the polarity if there is one, then anything."""
    nearby = [sampler.near(meaning)]
    if meaning.frame.polar:
        nearby.append(sampler.denied(meaning))
    return [*nearby, *(sampler.one_off(meaning) for _ in range(count - len(nearby)))]


def sts_records(sampler: Sampler, count: int) -> Iterator[Record]:
    """Yield one record per pair, with the same instruction on both sides."""
    for pair in scored_pairs(sampler, count):
        yield scored_pair(INSTRUCTION_STS, pair.first, pair.second, pair.score)


def scored_pairs(sampler: Sampler, count: int) -> Iterator[ScoredPair]:
    """Yield distinct pairs whose scores visit the bins of [0, 1] in turn, so the gold is spread evenly."""
    seen: set[tuple[str, str]] = set()
    number = 0
    while number < count:
        meaning, other = _pair_in_bin(sampler, number % NUM_BINS)
        pair = _say_pair(sampler, meaning, other)
        if pair and (pair.first, pair.second) not in seen:
            seen.add((pair.first, pair.second))
            number += 1
            yield pair


def _say_pair(sampler: Sampler, meaning: Meaning, other: Meaning) -> ScoredPair | None:
    language = sampler.rng.choice(("zh", "en"))
    other_language = OTHER[language] if sampler.rng.random() < CROSS_LINGUAL_SHARE else language
    first = sampler.must_text(meaning, language)
    unlike = [first] if sampler.rng.random() < REWORDED_SHARE else []
    second = sampler.text(other, other_language, avoid=[first], unlike=unlike)
    return ScoredPair(first, second, round(similarity(meaning, other), 4)) if second else None


def score_bin(score: float) -> int:
    """Return 0 for 0, NUM_BINS - 1 for 1, and otherwise 1 + the tenth the score lies in."""
    if score <= 0.0 or score >= 1.0:
        return 0 if score <= 0.0 else NUM_BINS - 1
    return 1 + int(score * 10)


def _pair_in_bin(sampler: Sampler, wanted: int) -> tuple[Meaning, Meaning]:
    """Draw pairs until one's score is in the wanted bin; a bin that stays empty takes the last pair drawn."""
    meaning = sampler.meaning()
    other = meaning
    for _ in range(MAX_TRIES):
        if wanted in (0, 2) and sampler.rng.random() < 0.8:
            meaning, other = sampler.meaning(), sampler.meaning()
        else:
            meaning = sampler.meaning()
            other = _altered(sampler, meaning, same=wanted == NUM_BINS - 1)
        if score_bin(similarity(meaning, other)) == wanted:
            break
    return meaning, other


def _altered(sampler: Sampler, meaning: Meaning, same: bool) -> Meaning:
    """Return the meaning with none to all of its slots changed, near or far, and sometimes denied."""
    if same:
        return meaning
    rng, other = sampler.rng, meaning
    for slot in range(len(meaning.values)):
        if rng.random() < 0.4:
            other = sampler.changed(other, slot)
    if rng.random() < 0.5:
        other = sampler.near(other)
    return sampler.denied(other) if other.frame.polar and rng.random() < 0.3 else other
