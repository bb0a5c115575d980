"""Fusion needs the memory of one tensor of each checkpoint, not that of the models, mapped files included."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

NUM_TENSORS, ENTRIES, NUM_CHECKPOINTS = 32, 2**19, 3  # 2 MiB a tensor, 64 MiB a model
MEASURE = """
import re, sys
from pathlib import Path
from codiemb.fusion import FusionSpec, fuse

def peak_mib():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

folder = Path(sys.argv[1])
checkpoints = [folder / str(number) for number in range(int(sys.argv[2]))]
small = [folder / "small0", folder / "small1"]
fuse(small, folder / "warm", FusionSpec(), base=small[0])  # one-time costs
before = peak_mib()
for max_shard_bytes in map(int, sys.argv[3:]):  # the highest peak last
    fuse(checkpoints, folder / "fused", FusionSpec(), base=folder / "base", max_shard_bytes=max_shard_bytes)
    print(peak_mib() - before)
"""


def write_model(folder, num_tensors, entries):
    folder.mkdir()
    tensors = {f"layers.{i}.weight": torch.rand(entries // 64, 64) for i in range(num_tensors)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3"}), "utf-8")


@pytest.mark.slow
def test_the_memory_of_a_fusion_is_that_of_a_few_tensors_and_not_of_the_models(tmp_path):
    for name in ("base", *map(str, range(NUM_CHECKPOINTS))):
        write_model(tmp_path / name, NUM_TENSORS, ENTRIES)
    for name in ("small0", "small1"):
        write_model(tmp_path / name, 2, 64)

    shard_bytes = ("1048576", "1099511627776")
    result = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path), str(NUM_CHECKPOINTS), *shard_bytes],
        capture_output=True,
        text=True,
        timeout=120,
        # tensors are given back when freed, instead of fragmenting glibc's heap by chance
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"},
        check=True,
    )
    small, large = map(float, result.stdout.split())
    assert small < 32  # four tensors, the result and blocks in float64; all four models are 256 MiB
    assert large > 60  # one shard with all of the result: the measurement sees a whole model
