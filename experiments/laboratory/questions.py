"""The laboratory's questions: which arms each compares, and the sweeps that answer it."""

from collections.abc import Iterator
from pathlib import Path

from experiments.laboratory.arms import EXPERIMENT, FUSION, START
from experiments.laboratory.frames_questions import FRAMES_QUESTIONS, MINILM, ON_MINILM, objectives
from experiments.laboratory.material import ENGLISH, REAL
from experiments.laboratory.question import FIVE_SEEDS, SEEDS, SWEEPS, Question, less, over, sweep
from experiments.steps import Step

FUSED = (("pareto", "ir_share_25"), ("transfer", "joint"), ("pareto", "ir_share_75"))

_REAL_FOLDER = Path("data/real")
_IN_ENGLISH = (
    "On all-MiniLM-L6-v2, which has English alone, and real text, of which it gets the English part: "
    "glosses of a dictionary for IR and diagnoses for STS. Dev side."
)
_IN_BOTH = (
    "On youtu_tiny from random weights and real text of three domains: English glosses of a dictionary and "
    "Chinese idioms for IR, English diagnoses for STS. Dev side."
)


def _on_real(question: Question, model: str) -> Question:
    """The same question of real text; scored on dev, as losses and shares may be chosen by it."""
    prefix, pretrained = f"real_{model}", model == "minilm"
    return question._replace(
        name=f"{prefix}_{question.name}",
        text=f"{question.text} {_IN_ENGLISH if pretrained else _IN_BOTH}",
        borrowed=tuple((f"{prefix}_{owner}", arm) for owner, arm in question.borrowed),
        overrides=ON_MINILM if pretrained else (),
        split="dev",
        needs=(_REAL_FOLDER, MINILM) if pretrained else (_REAL_FOLDER,),
        material=ENGLISH if pretrained else REAL,
        seeds=FIVE_SEEDS if pretrained else SEEDS,
    )


def _of_other_models_and_texts() -> Iterator[Question]:
    named = {question.name: question for question in FRAMES_QUESTIONS}
    objective = named["objective"]
    yield objective._replace(
        name="minilm_objective",
        text=f"{objective.text} On all-MiniLM-L6-v2, without instructions and at its usual learning rate.",
        arms=tuple({"layer_0": "layer_1", "layer_2": "layer_5"}.get(arm, arm) for arm in objective.arms),
        contrasts=objectives("layer_1", "layer_5"),
        overrides=ON_MINILM,
        needs=(MINILM,),
    )
    told = named["instructions"]._replace(  # minilm has no place for them: it is given one
        text="Does a model that was trained without instructions gain from them? `_told` has them before its "
        "queries, in training and evaluation, in single-task batches (`joint`) and in mixed ones.",
        arms=("joint_told", "mixed_told"),
        contrasts=(less("joint_told", "joint"), less("mixed_told", "mixed")),
    )
    for name in ("transfer", "leave_one_out", "instructions", "pareto"):
        yield _on_real(told if name == "instructions" else named[name], "minilm")
    alone = ("ir_only", "sts_only")  # from random weights: what joint training costs, and no more
    conflict = named["transfer"]._replace(
        text="Do IR and STS hurt each other when trained together? `ir_only` and `sts_only` see as many "
        "examples of their task as `joint`, in half of the steps.",
        arms=(*alone, "joint"),
        contrasts=tuple(less("joint", arm) for arm in alone),
    )
    yield _on_real(conflict, "tiny")


def _temperatures() -> Iterator[Question]:
    yield Question(
        "minilm_temperature",
        "How high may the temperature of InfoNCE be for a pretrained encoder, and does what helped alone "
        "help with it? 0.2 and 0.4 against 0.1; at 0.1 RankKL with the weight 5, the middle-layer term on "
        "layer 5 of 6, and both. On all-MiniLM-L6-v2, as minilm_objective.",
        ("ir_t20", "ir_t40", "t10_layer_5", "t10_rank_kl_5", "t10_both"),
        tuple(
            less(arm, "ir_t10")
            for arm in ("joint", "ir_t20", "ir_t40", "t10_layer_5", "t10_rank_kl_5", "t10_both")
        ),
        borrowed=(("minilm_objective", "joint"), ("minilm_objective", "ir_t10")),
        overrides=ON_MINILM,
        split="dev",
        needs=(MINILM,),
        seeds=FIVE_SEEDS,
    )
    yield Question(
        "real_minilm_temperature",
        "Does a higher temperature of InfoNCE help on real text, too? 0.05, 0.1 and 0.2 against 0.02. "
        + _IN_ENGLISH,
        ("ir_t05", "ir_t10", "ir_t20"),
        tuple(less(arm, "joint") for arm in ("ir_t05", "ir_t10", "ir_t20")),
        borrowed=(("real_minilm_transfer", "joint"),),
        overrides=ON_MINILM,
        split="dev",
        needs=(_REAL_FOLDER, MINILM),
        material=ENGLISH,
        seeds=FIVE_SEEDS,
    )


def _forgetting() -> Question:
    trained = ("joint", "ir_t10", "ir_only", "sts_only")
    return Question(
        "real_minilm_forgetting",
        "What does training forget, by task and by temperature of InfoNCE? Every arm is also scored on text "
        "that no training file has: titles of papers and descriptions of their data sets. `start` is not "
        "trained; `joint` is at 0.02, `ir_t10` at 0.1; `ir_only` and `sts_only` see as many examples of "
        f"their task in half of the steps. {_IN_ENGLISH}",
        ("start", *trained),
        (*(less(arm, "start") for arm in trained), *(less(arm, "joint") for arm in trained[1:])),
        overrides=ON_MINILM,
        split="dev",
        needs=(_REAL_FOLDER, MINILM),
        material=ENGLISH,
        outside=True,
    )


QUESTIONS = (*FRAMES_QUESTIONS, *_of_other_models_and_texts(), *_temperatures(), _forgetting())


def by_name(name: str) -> Question:
    """The question of this name."""
    return next(question for question in QUESTIONS if question.name == name)


def owner(question: Question, arm: str) -> Question:
    """The question that runs an arm of this one: itself, or that which it is borrowed from."""
    return next((by_name(name) for name, borrowed in question.borrowed if borrowed == arm), question)


def own_steps(question: Question) -> list[Step]:
    """The sweeps of a question's page, without those of borrowed arms."""
    return _fusion_steps() if question.name == "fusion" else [question.step(arm) for arm in question.arms]


def all_steps(question: Question) -> list[Step]:
    """Those of borrowed arms first."""
    return [*(by_name(name).step(arm) for name, arm in question.borrowed), *own_steps(question)]


def run_folder(question: str, arm: str, seed: int) -> Path:
    """Where Hydra puts a job: the sweep of an arm goes through the seeds."""
    asked = by_name(question)
    return asked.step(arm).folder / str(asked.seeds.index(seed))


def _fusion_steps() -> list[Step]:
    """The common start of each seed's arms, then for each seed: checkpoints alone, soup, delta-guided."""
    steps = [sweep("fusion_start", [EXPERIMENT, *START, over(SEEDS)], len(SEEDS), 0.2)]
    for number, seed in enumerate(SEEDS):
        checkpoints = ",".join(str(run_folder(question, arm, seed)) for question, arm in FUSED)
        common = [EXPERIMENT, *FUSION, "task.split=dev,test", f"seed={seed}"]
        common += [f"fuse.checkpoints=[{checkpoints}]", f"fuse.base={SWEEPS}/fusion_start/{number}"]
        alone = "fuse.weights=[1,0,0],[0,1,0],[0,0,1]"
        delta = ["fuse.exponent=-1,1,2", "fuse.granularity=tensor,row,element"]
        steps += [
            sweep(f"fusion_alone_{seed}", [*common, "fuse.method=weighted", alone], 6, 0.25),
            sweep(f"fusion_soup_{seed}", [*common, "fuse.method=uniform"], 2, 0.25),
            sweep(f"fusion_delta_{seed}", [*common, *delta], 18, 0.25),
        ]
    return steps
