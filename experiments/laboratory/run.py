"""Run the laboratory or some of its questions: `python -m experiments.laboratory.run [QUESTION ...]`."""

import argparse
import functools
import sys
from collections.abc import Sequence

from experiments.laboratory.data import prepare
from experiments.laboratory.pages import write_page
from experiments.laboratory.question import Question
from experiments.laboratory.questions import FUSED, QUESTIONS, all_steps, by_name
from experiments.laboratory.sequential import Work, go_on
from experiments.steps import ROOT, Step, add_machine_arguments, run_steps


def main(arguments: list[str] | None = None) -> None:
    """Each question's sweeps, unless they have finished, and then its page.

    Two terminals with different questions at once are the best use of two cores, one thread each
    (OMP_NUM_THREADS=1), or --at-once 2. On a card: --accelerator gpu --at-once N, a core each. `fusion` needs
    the runs of `transfer` and `pareto`.
    """
    options = _arguments(arguments)
    asked = [by_name(name) for name in options.questions] or list(QUESTIONS)
    if options.pages:
        for question in asked:
            if not write_page(question):
                sys.stdout.write(f"{question.name}: no arm has three finished seeds yet\n")
        return
    asked = [question for question in asked if can_be_asked(question, named=bool(options.questions))]
    for material in {question.material.folder: question.material for question in asked}.values():
        prepare(material)
    work = functools.partial(run_steps, at_once=options.at_once, accelerator=options.accelerator)
    run(asked, work)
    for question in asked:
        if go_on(question, options.more_minutes, work, options.at_once):
            write_page(question)


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=main.__doc__)
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
    add_machine_arguments(parser)
    options = parser.parse_args(arguments)
    if unknown := set(options.questions) - set(names):
        parser.error(f"no question {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    return options


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


def run(questions: Sequence[Question], work: Work = run_steps) -> None:
    """Their sweeps and those of the arms that they borrow; each page once all of its own are there.

    Raises:
        SystemExit: a run failed, or what a fusion fuses is not there.
    """
    waiting = {question.name: {step.name for step in all_steps(question)} for question in questions}

    def after(step: Step) -> None:
        for question in questions:
            if step.name in waiting[question.name]:
                waiting[question.name].remove(step.name)
                if not waiting[question.name]:
                    write_page(question)

    trained = [question for question in questions if question.name != "fusion"]
    steps = {step.name: step for question in trained for step in all_steps(question)}
    work(list(steps.values()), after)
    if len(trained) < len(questions):
        missing = sorted({name for name, arm in FUSED if not by_name(name).step(arm).has_finished()})
        if missing:
            sys.exit(f"fusion fuses the checkpoints of other questions; run first: {' '.join(missing)}")
        work(all_steps(by_name("fusion")), after)


if __name__ == "__main__":
    main()
