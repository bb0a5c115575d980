"""The judges of one run: the cheap one is asked about every pair, the strong one about the unsure."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from codiemb.mining.choose import pair_key
from data_prep.endpoint.session import Session, ledger_path
from data_prep.layout import CORPUS
from data_prep.mining.scored_by import CrossEncoderScores
from data_prep.relabelling.asking import Asked, read_prompt
from data_prep.relabelling.options import Parameters
from data_prep.relabelling.verdicts import UNSURE, ByScore, GivenScores, Judge, Said
from data_prep.relations import Ids
from data_prep.search.pair_scorer import cross_encoder_identity, load_cross_encoder
from data_prep.step import Work
from data_prep.texts import Texts


@dataclass(frozen=True)
class Panel:
    """Judges, and what they are called: the origin of what they find right."""

    cheap: Judge | None
    strong: Judge | None
    names: tuple[str, str]
    check_share: float
    seed: int

    def judge(self, query_P: np.ndarray, document_P: np.ndarray) -> dict[str, Any]:
        """Columns for P pairs: score and verdict of the cheap judge and the strong one, and what counts."""
        nothing = Said([UNSURE] * len(query_P), np.full(len(query_P), np.nan))
        cheap = self.cheap(query_P, document_P) if self.cheap else nothing
        strong: list[str | None] = [None] * len(query_P)
        strong_score_P = np.full(len(query_P), np.nan)
        if self.strong is not None:
            checked_P = self._drawn(pair_key(query_P, document_P))
            asked = [row for row, said in enumerate(cheap.verdicts) if said == UNSURE or checked_P[row]]
            theirs = self.strong(query_P[asked], document_P[asked])
            strong_score_P[asked] = theirs.score_P
            for row, said in zip(asked, theirs.verdicts, strict=True):
                strong[row] = said
        return {
            "score": _or_null(cheap.score_P),
            "cheap": cheap.verdicts,
            "strong_score": _or_null(strong_score_P),
            "strong": strong,
            "verdict": [said or ours for ours, said in zip(cheap.verdicts, strong, strict=True)],
        }

    def _drawn(self, key_P: np.ndarray) -> list[bool]:
        """A share of the pairs, by the hash of each: whatever block it is in."""
        below = self.check_share * 2**64
        keys = (int(key).to_bytes(8, "little", signed=True) for key in key_P)
        return [xxhash.xxh3_64_intdigest(key, self.seed) < below for key in keys]


def _or_null(score_P: np.ndarray) -> list[float | None]:
    return [None if np.isnan(score) else float(score) for score in score_P]


@contextmanager
def opened_panel(
    work: Work[Parameters], ids: Ids, queries: Mapping[int, str], about: dict[str, Any]
) -> Iterator[Panel]:
    """The judges that the options name, while their models and their ledger are open.

    Args:
        work: of the step.
        ids: of the source.
        queries: texts by row number, of all that are judged.
        about: gets what the manifest says of them: fingerprints, and tokens and cost when all is judged.

    Raises:
        UserError: a model is not to be had, or a scorer.
    """
    options = work.options
    texts = Texts(work.part("texts.arrow", lambda path: Texts.write(work.source / CORPUS, path)))

    def scores(path: str, role: str) -> CrossEncoderScores:
        model = load_cross_encoder(path, device=options.device)
        about[role] = cross_encoder_identity(model)
        return CrossEncoderScores(model, dict(queries), texts, Path(options.cache))

    cheap: Judge | None = None
    if options.judge:
        cheap = ByScore(scores(options.judge, "judge"), options.cheap_bounds())
    elif options.judge_scores:
        cheap = ByScore(GivenScores(work.source, ids, options.judge_scores), options.cheap_bounds())
    names = (
        _name(options.judge or options.judge_scores),
        _name(options.strong or options.strong_scores or options.model),
    )
    if options.asks_a_model:
        with Session.opened(options, ledger_path(options, work.destination)) as session:
            asked = Asked(session, read_prompt(options.prompt), queries, texts)
            yield Panel(cheap, asked, names, options.check_share, options.seed)
            about["taken"] = session.taken()
        return
    strong: Judge | None = None
    if options.strong:
        strong = ByScore(scores(options.strong, "strong"), options.strong_bounds())
    elif options.strong_scores:
        strong = ByScore(GivenScores(work.source, ids, options.strong_scores), options.strong_bounds())
    yield Panel(cheap, strong, names, options.check_share, options.seed)


def _name(path: str) -> str:
    """A folder's own name: where it lies is no matter of the data."""
    return Path(path).name if Path(path).is_dir() else path
