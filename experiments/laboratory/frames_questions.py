"""The laboratory's questions on frames data: which arms each compares."""

from pathlib import Path

from experiments.laboratory.question import FIVE_SEEDS, Contrast, Question, less

MINILM = Path("data/minilm")  # a local copy of all-MiniLM-L6-v2: a folder, or a link to one
ON_MINILM = ("model=minilm", f"model.path={MINILM}", "model.learning_rate=5e-5")
_TERMS = ("ir_t03", "ir_t05", "ir_t10", "pro_centred", "rank_kl_5", "anchors_80")
_SHARED = ("shared_step", "shared_step_16", "surgery_16")


def objectives(*layers: str) -> tuple[Contrast, ...]:
    """Every other objective less the published one, and what surgery adds to steps of both tasks."""
    others = tuple(less(arm, "joint") for arm in (*_TERMS, *layers, *_SHARED))
    return (*others, less("surgery_16", "shared_step_16"))


FRAMES_QUESTIONS = (
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
        overrides=ON_MINILM,
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
        objectives("layer_0", "layer_2"),
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
