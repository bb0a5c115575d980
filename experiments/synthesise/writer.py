"""Train a model of a million parameters to write queries for passages of builtin docs, and serve it.

    python -m experiments.synthesise.writer train --out data/tiny_writer
    python -m experiments.synthesise.writer serve data/tiny_writer --port 8123

It stands in for a language model where there is no network and no GPU: a real server, real sampling, real
JSON, and queries that read well and often miss their passage. README.md says how good they are.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import torch
import xxhash
from torch import Tensor
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from data_prep.synthesis.prompt import filled, load_prompt

PROMPT = Path(__file__).with_name("docs_query.en.yaml")
RECORDS = Path("data/builtin/train/docs_ir.jsonl")
TOKENIZER = Path("data/builtin/tokenizer")
MAX_CHARACTERS = 300  # of a passage: --max-characters of the step
_TEMPLATE = (
    "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}{{ '\n' }}{% endif %}"
)
_BATCH, _LEARNING_RATE = 32, 4e-3


def is_for_training(passage: str) -> bool:
    """Half of the passages: of the others the model has seen no query."""
    return xxhash.xxh3_64_intdigest(passage.encode()) % 2 == 0


def pairs(records: Path) -> Iterator[tuple[str, str]]:
    """Passage and query of each record."""
    with records.open(encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            for _, _, passage in record["positives"]:
                yield passage, record["query"][2]


def train(records: Path, out: Path, steps: int) -> None:
    """Train and save; 600 steps take two to three minutes of one core."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    tokenizer.chat_template = _TEMPLATE
    examples = _examples(records, tokenizer)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=192,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
        )
    )
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(examples):,} examples")
    optimizer = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, _LEARNING_RATE, total_steps=steps, pct_start=0.1
    )
    started = time.process_time()
    for step in range(steps):
        chosen = torch.randint(len(examples), (_BATCH,)).tolist()
        loss = _loss(model, [examples[index] for index in chosen])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            print(
                f"step {step}: loss {loss.item():.3f}, {time.process_time() - started:.0f} CPU s", flush=True
            )
    model.generation_config.do_sample = True  # else the server heeds no temperature
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def _examples(records: Path, tokenizer: PreTrainedTokenizerBase) -> list[tuple[list[int], list[int]]]:
    """Token ids of prompt and answer, of the half that is for training."""
    (question,) = load_prompt(PROMPT).ask
    found = []
    for passage, query in pairs(records):
        if is_for_training(passage):
            prompt = filled(question.prompt, {"passage": passage[:MAX_CHARACTERS]}) + "\n"
            answer = json.dumps({"query": query}, ensure_ascii=False) + tokenizer.eos_token
            found.append((tokenizer(prompt)["input_ids"], tokenizer(answer)["input_ids"]))
    return found


def _loss(model: LlamaForCausalLM, batch: list[tuple[list[int], list[int]]]) -> Tensor:
    """Of the answers alone: logits of a vocabulary of 12,000 are most of the time otherwise."""
    longest = max(len(prompt) + len(answer) for prompt, answer in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    is_answer = torch.zeros(len(batch), longest, dtype=torch.bool)
    for row, (prompt, answer) in enumerate(batch):
        ids[row, : len(prompt) + len(answer)] = torch.tensor([*prompt, *answer])
        is_answer[row, len(prompt) : len(prompt) + len(answer)] = True
    hidden = model.model(ids).last_hidden_state[:, :-1][is_answer[:, 1:]]  # causal: padding is behind
    return torch.nn.functional.cross_entropy(model.lm_head(hidden), ids[:, 1:][is_answer[:, 1:]])


@contextlib.contextmanager
def served(model: Path, port: int, log: Path) -> Iterator[str]:
    """`transformers serve` of a folder, until the block ends; gives the address for --endpoint."""
    command = [Path(sys.executable).with_name("transformers"), "serve", model.name, "--device", "cpu"]
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    address = ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    with log.open("w") as output:
        server = subprocess.Popen(
            [*command, *address],
            cwd=model.parent,  # requests must name the model as it was named here
            stdout=output,
            stderr=output,
            env=os.environ | offline,
        )
    try:
        _wait(server, f"http://127.0.0.1:{port}/health", log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait()


def _wait(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    for _ in range(600):
        if server.poll() is not None:
            raise SystemExit(f"the server has ended: {log.read_text()[-2000:]}")
        try:
            with urlopen(url, timeout=1):
                return
        except (URLError, OSError):
            time.sleep(0.1)
    raise SystemExit(f"no answer from {url} in a minute; {log}")


def main() -> None:
    """Train or serve."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="two minutes of one core")
    training.add_argument("--records", type=Path, default=RECORDS)
    training.add_argument("--out", type=Path, default=Path("data/tiny_writer"))
    training.add_argument("--steps", type=int, default=600)
    serving = commands.add_parser("serve", help="until Ctrl-C")
    serving.add_argument("model", type=Path)
    serving.add_argument("--port", type=int, default=8123)
    given = parser.parse_args()
    if given.command == "train":
        train(given.records, given.out, given.steps)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the server ends, too
    with served(given.model, given.port, given.model / "serve.log") as url:
        print(f"--endpoint {url} --model {given.model.name}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
