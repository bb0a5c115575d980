"""Run the laboratory or some of its questions: `python -m experiments.laboratory.run [QUESTION ...]`."""

import argparse
import sys

from experiments.laboratory.data import prepare
from experiments.laboratory.pages import write_page
from experiments.laboratory.questions import FUSED, QUESTIONS, Question, by_name
from experiments.laboratory.sequential import go_on
from experiments.steps import ROOT, run_steps


def main(arguments: list[str] | None = None) -> None:
    """Each question's sweeps, unless they have finished, and then its page.

    Two terminals with different questions at once are the best use of two cores, one thread each
    (OMP_NUM_THREADS=1). `fusion` needs the runs of `transfer` and `pareto`.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    names = [question.name for question in QUESTIONS]
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=f"of {', '.join(names)}")
    parser.add_argument(
        "--more-minutes",
        type=float,
        default=0.0,
        metavar="N",
        help="then further seeds, up to seven, of comparisons that are not decided: N minutes a question",
    )
    parser.add_argument("--pages", action="store_true", help="write the pages again, run nothing")
    options = parser.parse_args(arguments)
    unknown = set(options.questions) - set(names)
    if unknown:
        parser.error(f"no question {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    asked = [question for question in QUESTIONS if question.name in (options.questions or names)]
    if not options.pages:
        asked = [question for question in asked if can_be_asked(question, named=bool(options.questions))]
        for material in {question.material.folder: question.material for question in asked}.values():
            prepare(material)
    for question in asked:
        if not options.pages:
            run(question)
            go_on(question, options.more_minutes)
        if not write_page(question):
            sys.stdout.write(f"{question.name}: no arm has three finished seeds yet\n")


def can_be_asked(question: Question, *, named: bool) -> bool:
    """Whether the folders that it needs are there.

    Raises:
        SystemExit: it is not, and the question was asked for by name.
    """
    missing = [folder for folder in question.needs if not (ROOT / folder).is_dir()]
    if not missing:
        return True
    if named:
        sys.exit(f"question {question.name} needs {missing[0]}: a folder, or a link to one")
    sys.stdout.write(f"{question.name}: left out, there is no {missing[0]}\n")
    return False


def run(question: Question) -> None:
    """Its sweeps.

    Raises:
        SystemExit: a run failed, or what a fusion fuses is not there.
    """
    if question.name == "fusion":
        missing = sorted({name for name, arm in FUSED if not by_name(name).step(arm).has_finished()})
        if missing:
            sys.exit(f"fusion fuses the checkpoints of other questions; run first: {' '.join(missing)}")
    run_steps(question.steps())


if __name__ == "__main__":
    main()
