"""The laboratory's questions: which arms each compares, and the sweeps that answer it."""

from collections.abc import Iterator
from pathlib import Path

from experiments.laboratory.arms import EXPERIMENT, FUSION, START
from experiments.laboratory.material import ENGLISH, REAL
from experiments.laboratory.question import FIVE_SEEDS, SEEDS, SWEEPS, Contrast, Question, less, over, sweep
from experiments.steps import Step

MINILM = Path("data/minilm")  # a local copy of all-MiniLM-L6-v2: a folder, or a link to one
FUSED = (("pareto", "ir_share_25"), ("transfer", "joint"), ("pareto", "ir_share_75"))


_MINILM = ("model=minilm", f"model.path={MINILM}", "model.learning_rate=5e-5")
_TERMS = ("ir_t03", "ir_t05", "ir_t10", "pro_centred", "rank_kl_5", "anchors_80")
_SHARED = ("shared_step", "shared_step_16", "surgery_16")


def _objectives(*layers: str) -> tuple[Contrast, ...]:
    """Every other objective less the published one, and what surgery adds to steps of both tasks."""
    others = tuple(less(arm, "joint") for arm in (*_TERMS, *layers, *_SHARED))
    return (*others, less("surgery_16", "shared_step_16"))


_FRAMES_QUESTIONS = (
    Question(
        "transfer",
        "Do IR and STS hurt each other when trained together, and do single-task batches or a loss for each "
        "task help? `ir_only` and `sts_only` see as many examples of their task as the joint arms, in half "
        "of the steps. In `joint*` a batch holds one task, in `mixed*` both, half and half; `_infonce` and "
        "`_cosent` use one loss for both tasks, the others the published loss of each.",
        (
            "ir_only",
            "sts_only",
            "joint",
            "joint_infonce",
            "joint_cosent",
            "mixed",
            "mixed_infonce",
            "mixed_cosent",
        ),
        (
            less("joint", "ir_only"),
            less("joint", "sts_only"),
            less("joint", "mixed"),
            less("joint_infonce", "mixed_infonce"),
            less("joint_cosent", "mixed_cosent"),
            less("joint", "joint_infonce"),
            less("joint", "joint_cosent"),
            less("mixed", "mixed_infonce"),
            less("mixed", "mixed_cosent"),
        ),
    ),
    Question(
        "leave_one_out",
        "What does each term of the published STS loss contribute, and how does the whole compare with other "
        "list-wise losses? `no_*` leaves out one term; `sts_*` replaces all four. IR is InfoNCE in all arms.",
        ("no_pearson", "no_rank_kl", "no_pro", "no_mid_nce", "sts_listnet", "sts_cosent", "sts_angle"),
        tuple(
            less("joint", arm)
            for arm in (
                "no_pearson",
                "no_rank_kl",
                "no_pro",
                "no_mid_nce",
                "sts_listnet",
                "sts_cosent",
                "sts_angle",
            )
        ),
        borrowed=(("transfer", "joint"),),
    ),
    Question(
        "instructions",
        "Is it the instructions or the single-task batches? 2 x 2: with instructions or without (`_bare`, in "
        "training and evaluation), one task a batch (`joint`) or both (`mixed`). Each task has its published "
        "loss.",
        ("joint_bare", "mixed_bare"),
        (
            less("joint", "joint_bare"),
            less("mixed", "mixed_bare"),
            less("joint", "mixed"),
            less("joint_bare", "mixed_bare"),
            Contrast("interaction", {"joint": 1, "joint_bare": -1, "mixed": -1, "mixed_bare": 1}),
        ),
        borrowed=(("transfer", "joint"), ("transfer", "mixed")),
    ),
    Question(
        "pareto",
        "What does the share of IR steps trade, with objectives and number of steps fixed? `joint` is the "
        "share of 50 %.",
        ("ir_share_0", "ir_share_25", "ir_share_75", "ir_share_100"),
        (
            less("joint", "ir_share_0"),
            less("joint", "ir_share_25"),
            less("joint", "ir_share_75"),
            less("joint", "ir_share_100"),
        ),
        borrowed=(("transfer", "joint"),),
        scatter=True,
    ),
    Question(
        "minilm",
        "Does what transfer.md found hold for an encoder that contrastive learning has trained before? The "
        "arms are the same, the model is all-MiniLM-L6-v2 (English; its vocabulary holds few Chinese "
        "characters), without instructions and at its usual learning rate.",
        ("ir_only", "sts_only", "joint", "mixed"),
        (less("joint", "ir_only"), less("joint", "sts_only"), less("joint", "mixed")),
        overrides=_MINILM,
        needs=(MINILM,),
    ),
    Question(
        "objective",
        "Which parts of the published objective could be otherwise? `joint` is the published one. InfoNCE at "
        "temperature 0.03, 0.05 and 0.1 (0.02); PRO over centred similarities, so that a rise of all of them "
        "does not lower it; RankKL with the weight 5 (5/32); the middle-layer term from score 0.8 on (1.0), "
        "and on another layer (half of the depth); both tasks in every optimizer step, as two single-task "
        "batches whose losses are averaged, at equal examples: in half of the steps, or in as many steps "
        "with half batches, the latter also with gradient surgery (PCGrad).",
        ("joint", *_TERMS, "layer_0", "layer_2", *_SHARED),
        _objectives("layer_0", "layer_2"),
        split="dev",
        seeds=FIVE_SEEDS,
    ),
    Question(
        "masking",
        "Does masking false negatives by content hash help where the data has duplicates? Every positive "
        "stands under four queries of 1,280: in a batch of 128 about a quarter of the queries meet their own "
        "positive as a negative. IR alone.",
        ("duplicates_masked", "duplicates_unmasked"),
        (less("duplicates_masked", "duplicates_unmasked"),),
    ),
    Question(
        "batch",
        "What do batch size and hard negatives give? Batches of 16, 32 (`joint`) and 128 queries of both "
        "tasks at equal examples, so with fewer steps of larger ones; 0, 1 (`joint`) and 4 hard negatives "
        "an IR query.",
        ("batch_16", "batch_128", "negatives_0", "negatives_4"),
        (
            less("batch_16", "joint"),
            less("batch_128", "joint"),
            less("negatives_0", "joint"),
            less("negatives_4", "joint"),
        ),
        borrowed=(("transfer", "joint"),),
    ),
    Question(
        "fusion",
        "Does delta-guided fusion beat a uniform soup and the best single checkpoint? Fused are the three "
        "checkpoints of one seed with 25, 50 and 75 % IR steps, which start from the same random weights; "
        "each seed is one repetition. Exponent 0 would be the soup.",
        (),
        (),
    ),
)


_REAL_FOLDER = Path("data/real")
_ON_MINILM = (
    "On all-MiniLM-L6-v2, which has English alone, and real text, of which it gets the English part: "
    "glosses of a dictionary for IR and diagnoses for STS. Dev side."
)
_ON_TINY = (
    "On youtu_tiny from random weights and real text of three domains: English glosses of a dictionary and "
    "Chinese idioms for IR, English diagnoses for STS. Dev side."
)


def _on_real(question: Question, model: str) -> Question:
    """The same question of real text; scored on dev, as losses and shares may be chosen by it."""
    prefix, pretrained = f"real_{model}", model == "minilm"
    return question._replace(
        name=f"{prefix}_{question.name}",
        text=f"{question.text} {_ON_MINILM if pretrained else _ON_TINY}",
        borrowed=tuple((f"{prefix}_{owner}", arm) for owner, arm in question.borrowed),
        overrides=_MINILM if pretrained else (),
        split="dev",
        needs=(_REAL_FOLDER, MINILM) if pretrained else (_REAL_FOLDER,),
        material=ENGLISH if pretrained else REAL,
        seeds=FIVE_SEEDS if pretrained else SEEDS,
    )


def _of_other_models_and_texts() -> Iterator[Question]:
    named = {question.name: question for question in _FRAMES_QUESTIONS}
    objective = named["objective"]
    yield objective._replace(
        name="minilm_objective",
        text=f"{objective.text} On all-MiniLM-L6-v2, without instructions and at its usual learning rate.",
        arms=tuple({"layer_0": "layer_1", "layer_2": "layer_5"}.get(arm, arm) for arm in objective.arms),
        contrasts=_objectives("layer_1", "layer_5"),
        overrides=_MINILM,
        needs=(MINILM,),
    )
    told = named["instructions"]._replace(  # minilm has no place for them: it is given one
        text="Does a model that was trained without instructions gain from them? `_told` has them before its "
        "queries, in training and evaluation, in single-task batches (`joint`) and in mixed ones.",
        arms=("joint_told", "mixed_told"),
        contrasts=(less("joint_told", "joint"), less("mixed_told", "mixed")),
    )
    for name in ("transfer", "leave_one_out", "instructions", "pareto"):
        yield _on_real(named[name], "tiny")
        yield _on_real(told if name == "instructions" else named[name], "minilm")


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
        overrides=_MINILM,
        split="dev",
        needs=(MINILM,),
        seeds=FIVE_SEEDS,
    )
    yield Question(
        "real_minilm_temperature",
        "Does a higher temperature of InfoNCE help on real text, too? 0.05, 0.1 and 0.2 against 0.02. "
        + _ON_MINILM,
        ("ir_t05", "ir_t10", "ir_t20"),
        tuple(less(arm, "joint") for arm in ("ir_t05", "ir_t10", "ir_t20")),
        borrowed=(("real_minilm_transfer", "joint"),),
        overrides=_MINILM,
        split="dev",
        needs=(_REAL_FOLDER, MINILM),
        material=ENGLISH,
        seeds=FIVE_SEEDS,
    )


QUESTIONS = (*_FRAMES_QUESTIONS, *_of_other_models_and_texts(), *_temperatures())


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
