"""The machine a benchmark ran on: its matmul rate, its memory, its name; and the page that results go to."""

import os
import platform
import statistics
import sys
import textwrap
import time
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch


def matmul_rate(
    dtype: torch.dtype = torch.float32, size: int = 2048, repeats: int = 7, device: str = "cpu"
) -> tuple[float, float]:
    """Flops of a large square product, a second and a CPU second, medians."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    a @ b
    rates = []
    for _ in range(repeats):
        synchronise(device)
        started, cpu_started = time.perf_counter(), time.process_time()
        a @ b
        synchronise(device)
        elapsed = time.perf_counter() - started, time.process_time() - cpu_started
        rates.append([2 * size**3 / seconds for seconds in elapsed])
    wall, cpu = zip(*rates, strict=True)
    return statistics.median(wall), statistics.median(cpu)


def synchronise(device: str) -> None:
    """Wait for a card to finish; a CPU has finished already."""
    if device == "cuda":
        torch.cuda.synchronize()


def memory_mib(field: str) -> float:
    """VmRSS (now) or VmHWM (peak) of this process; getrusage would inherit the parent's peak."""
    status = Path("/proc/self/status").read_text("utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field)) / 1024


def reset_peak_memory() -> None:
    """Set VmHWM back to VmRSS (Linux)."""
    Path("/proc/self/clear_refs").write_text("5", "utf-8")


def page(title: str, paragraphs: Sequence[str], packages: Sequence[str]) -> str:
    """A Markdown page: the paragraphs, then the machine and the command."""
    rates = {
        name: matmul_rate(dtype)[0] / 1e9
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }
    machine = f"""Machine: {_cpu()}, {os.cpu_count()} cores of which {torch.get_num_threads()} used, matmul
        rate {rates["fp32"]:.0f} GFLOP/s in fp32 and {rates["bf16"]:.0f} in bf16, load average
        {os.getloadavg()[0]:.1f}. {", ".join(f"{name} {version(name)}" for name in packages)}, Python
        {platform.python_version()}; {date.today().isoformat()}."""
    spec = sys.modules["__main__"].__spec__  # of `python -m MODULE`
    module = spec.name if spec else Path(sys.argv[0]).stem
    command = f"Run: `{' '.join([f'python -m {module}', *sys.argv[1:]])}`"
    return "\n\n".join([f"# {title}", *map(_wrap, (*paragraphs, machine, command))]) + "\n"


def _wrap(paragraph: str) -> str:
    return paragraph if paragraph.startswith("|") else textwrap.fill(" ".join(paragraph.split()), 110)


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
