"""Run the experiment: `python -m experiments.three_stage.run`, tables as it goes, a page at the end."""

import sys
from pathlib import Path

from experiments.steps import ROOT, Step, run_steps
from experiments.three_stage.page import write_page
from experiments.three_stage.plan import ARMS, all_steps
from experiments.three_stage.tables import dev_table, read_arm, test_table

PAGE_FOLDER = Path(__file__).parent
AT_ONCE = 2  # runs, a core each on a laptop: two thirds of the time of one after the other


def main() -> None:
    """All steps that have not finished, then the page."""
    if not (ROOT / "data/builtin/train/docs_lm.jsonl").is_file():
        sys.exit("there is no raw text yet: run `make data-all` first")
    run_steps(all_steps(), after=show, at_once=AT_ONCE)
    page = write_page(PAGE_FOLDER, {arm.name: read_arm(arm) for arm in ARMS})
    sys.stdout.write(f"\n{page}\n")


def show(step: Step) -> None:
    """The table after a step: on the dev side, and on the test side once there are fused models."""
    fused = {arm.name: read_arm(arm) for arm in ARMS if step.folder == arm.fuse}
    sys.stdout.write(f"\n{test_table(fused) if fused else dev_table()}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
