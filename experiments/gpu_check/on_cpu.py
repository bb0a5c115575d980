"""run_train.py where DeepSpeed takes a CPU for a card: `python -m experiments.gpu_check.on_cpu ...`."""

import runpy

from experiments.gpu_check.parts import ROOT
from tests.support.zero_on_cpu import let_deepspeed_run_on_cpu

if __name__ == "__main__":
    let_deepspeed_run_on_cpu()
    runpy.run_path(str(ROOT / "run_train.py"), run_name="__main__")
