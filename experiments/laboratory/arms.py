"""What each arm of the laboratory overrides in experiment=laboratory: what its name says and nothing else."""

from collections.abc import Mapping, Sequence

EXPERIMENT = "experiment=laboratory"
_EXPORTED = "export.enabled=true"  # for the fusion
_DUPLICATES = (  # IR alone, every positive under four queries
    "data.files=[data/laboratory/duplicates.jsonl]",
    "tasks.ir.global_batch_size=128",
    "max_steps=30",
)
_MIXED_TASK = "+tasks.mixed=${tasks.ir}"
_MIXED = ("losses=mixed", "data.files=[data/laboratory/mixed.jsonl]", _MIXED_TASK)
_SHARED_16 = ("batches_per_step=2", "tasks.ir.global_batch_size=16", "tasks.sts.global_batch_size=16")
_T10 = "losses.ir.info_nce.temperature=0.1"
_BARE = "model.prompt.query=''"  # in training and evaluation
_TOLD = "model.prompt.query='Instruction: {instruction} Query: '"  # of a model that has no instructions

ARMS: Mapping[str, Sequence[str]] = {
    "start": ("max_steps=1", "optimizer.lr=0.0"),  # untrained
    # As many examples of a task as the joint arms see, in half of the steps.
    "ir_only": ("data.files=[data/laboratory/ir.jsonl]", "max_steps=60"),
    "sts_only": ("data.files=[data/laboratory/sts.jsonl]", "max_steps=60"),
    # IR and STS, one task a batch, each with its own loss: the published method.
    "joint": (_EXPORTED,),
    # InfoNCE for both tasks. Of the STS pairs those of score 0.8 or more, as positive pairs.
    "joint_infonce": (
        "losses=infonce",
        "data.files=[data/laboratory/ir.jsonl,data/laboratory/sts_positives.jsonl]",
    ),
    # CoSENT for both tasks. IR records as graded pairs: positives 1, hard negatives 0.
    "joint_cosent": (
        "losses=infonce_cosent",
        "data.files=[data/laboratory/ir_graded.jsonl,data/laboratory/sts.jsonl]",
    ),
    # Both tasks in every batch, half and half, each half with the loss of its task.
    "mixed": _MIXED,
    "mixed_infonce": (
        "losses=infonce",
        "data.files=[data/laboratory/mixed_positives.jsonl]",
        _MIXED_TASK,
    ),
    "mixed_cosent": ("losses=infonce_cosent", "data.files=[data/laboratory/mixed_graded.jsonl]"),
    # The published STS loss without one of its terms; other losses instead of it (AnglE comes with CoSENT).
    "no_pearson": ("losses.sts.pearson.weight=0.0",),
    "no_rank_kl": ("losses.sts.rank_kl.weight=0.0",),
    "no_pro": ("losses.sts.pro.weight=0.0",),
    "no_mid_nce": ("losses.sts.mid_nce.weight=0.0",),
    "sts_listnet": ("losses=infonce_listnet",),
    "sts_cosent": ("losses=infonce_cosent",),
    "sts_angle": ("losses=infonce_angle",),
    "joint_bare": (_BARE,),
    "mixed_bare": (*_MIXED, _BARE),
    "joint_told": (_TOLD,),
    "mixed_told": (*_MIXED, _TOLD),
    # One term of the published objective otherwise: how sharp InfoNCE is; PRO blind to a shift of all
    # similarities; RankKL without the 1/32 of the released code; middle-layer anchors from score 0.8 on, and
    # that layer elsewhere (0: the token embeddings).
    "ir_t03": ("losses.ir.info_nce.temperature=0.03",),
    "ir_t05": ("losses.ir.info_nce.temperature=0.05",),
    "ir_t10": (_T10,),
    "ir_t20": ("losses.ir.info_nce.temperature=0.2",),
    "ir_t40": ("losses.ir.info_nce.temperature=0.4",),
    "pro_centred": ("+losses.sts.pro.centred=true",),
    "rank_kl_5": ("losses.sts.rank_kl.weight=5.0",),
    "anchors_80": ("+losses.sts.mid_nce.min_score=0.8",),
    "layer_0": ("model.middle_layer=0",),
    "layer_1": ("model.middle_layer=1",),
    "layer_2": ("model.middle_layer=2",),
    "layer_5": ("model.middle_layer=5",),
    # What helped alone, together with a temperature of 0.1.
    "t10_layer_5": (_T10, "model.middle_layer=5"),
    "t10_rank_kl_5": (_T10, "losses.sts.rank_kl.weight=5.0"),
    "t10_both": (_T10, "model.middle_layer=5", "losses.sts.rank_kl.weight=5.0"),
    # A batch of each task in every optimizer step: the same examples in half of the steps, or in as many.
    "shared_step": ("batches_per_step=2", "max_steps=60"),
    "shared_step_16": _SHARED_16,
    "surgery_16": (*_SHARED_16, "+callbacks.surgery._target_=experiments.laboratory.surgery.GradientSurgery"),
    # Shares of IR batches in %.
    "ir_share_0": ("data.files=[data/laboratory/sts.jsonl]",),
    "ir_share_25": ("sampler=weights", "sampler.weights={ir:25,sts:75}", _EXPORTED),
    "ir_share_75": ("sampler=weights", "sampler.weights={ir:75,sts:25}", _EXPORTED),
    "ir_share_100": ("data.files=[data/laboratory/ir.jsonl]",),
    # False negatives masked by content hash, or left among the negatives.
    "duplicates_masked": _DUPLICATES,
    "duplicates_unmasked": (*_DUPLICATES, "+losses.ir.info_nce.mask_false_negatives=false"),
    # Other batches at the same number of examples; other numbers of hard negatives (as published: 4).
    "batch_16": ("tasks.ir.global_batch_size=16", "tasks.sts.global_batch_size=16", "max_steps=240"),
    "batch_128": ("tasks.ir.global_batch_size=128", "tasks.sts.global_batch_size=128", "max_steps=30"),
    "negatives_0": ("tasks.ir.num_negatives=0",),
    "negatives_4": ("tasks.ir.num_negatives=4",),
}
# The random weights that all arms of a seed start from: one step of size 0.
START = ("max_steps=1", "optimizer.lr=0.0", "evaluate.after=false", _EXPORTED)
# Fusion of the checkpoints in fuse.checkpoints; nothing is trained.
FUSION = ("stage=fuse",)
