"""A typo or an impossible value dies before anything is built, in one error that names the key."""

import json
import re

import pytest
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from codiemb.config import assemble
from codiemb.config.nodes import build_node, check_node
from codiemb.config.preflight import preflight
from codiemb.config.typed import source_files, typed_eval, typed_train
from codiemb.encoder.folder_settings import SETTINGS_FILE
from codiemb.errors import UserError


@pytest.mark.parametrize(
    "override",
    [
        "seeed=1",
        "model.poolin=cls",
        "trainer.devicez=2",
        "losses.sts.rank_kl.wieght=0.15",
        "losses.sts.rank_lk.weight=0.15",
        "optimizer.learning_rate=1",
        "callbacks.speed.every=1",
        "tasks.irr.global_batch_size=8",
        "data.sources.mine.path=a",
        "modle=youtu_tiny",
        "~data.sources.frames",
        "seed=one",
        "model.max_tokens=many",
        "evaluate.after=perhaps",
        "tasks.ir.global_batch_size=null",
    ],
)
def test_hydra_refuses_a_typo_on_the_command_line_and_names_the_key(composed, override):
    with pytest.raises((HydraException, OmegaConfBaseException)) as error:
        composed(override)
    key = override.removeprefix("~").split("=")[0]
    assert key in str(error.value) or key.split(".")[-1] in str(error.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+seeed=1", "seeed: no such key; did you mean seed?"),
        ("+model.poolin=cls", "model.poolin: no such key; did you mean pooling?"),
        ("+model.prompt.qery=a", "model.prompt.qery: no such key; did you mean query?"),
        ("+model.lora.rank=8", "model.lora.rank: no such key"),
        ("+data.on_eror=skip", "data.on_eror: no such key; did you mean on_error?"),
        ("+data.sources.mine.pth=a", "data.sources.mine.pth: no such key; did you mean path?"),
        ("+tasks.ir.batch_size=8", "tasks.ir.batch_size: no such key; did you mean global_batch_size?"),
        ("+task.nam=x", "task.nam: no such key; did you mean name?"),
        ("+trainer.devicez=2", "trainer.devicez: no such key; did you mean devices?"),
        ("+losses.sts.rank_kl.temprature=1", "losses.sts.rank_kl.temprature: no such key; did you mean"),
        ("+losses.sts.rank_lk.weight=0", "losses.sts.rank_lk needs a _target_; terms: pearson, rank_kl"),
        ("+losses.ir.info_nce.wieght=0", "losses.ir.info_nce.wieght: no such key; known keys: temperature"),
        ("+optimizer.weight_deca=0", "optimizer.weight_deca: no such key; did you mean weight_decay?"),
        ("+optimizer.params=0", "optimizer.params: no such key"),
        ("+schedule.warmup=0.1", "schedule.warmup: no such key; did you mean warmup_ratio?"),
        ("+schedule.num_steps=9", "schedule.num_steps: no such key"),
        ("+strategy.nam=ddp", "strategy.nam: no such key; did you mean name?"),
        ("+sampler.alfa=1", "sampler.alfa: no such key"),
        ("+callbacks.checkpoint.every_n_step=1", "callbacks.checkpoint.every_n_step: no such key; did you"),
        ("+callbacks.mine.every=1", "callbacks.mine needs a _target_"),
        ("callbacks.speed=5", "callbacks.speed needs a _target_"),
        ("+logger.jsonl.dir=x", "logger.jsonl.dir: no such key"),
        ("callbacks.speed._target_=codiemb.X", "callbacks.speed._target_=codiemb.X: cannot be imported"),
        ("callbacks.speed._target_=codiemb", "callbacks.speed._target_=codiemb: cannot be imported"),
        ("~optimizer._target_", "optimizer needs a _target_"),
        ("~sampler._target_", "sampler needs a _target_"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_named_with_what_was_probably_meant(refused, override, message):
    assert refused(override).startswith(message)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("losses.sts.rank_kl.weight=-1", "losses.sts.rank_kl.weight=-1 must be a finite number >= 0"),
        ("losses.sts.rank_kl.weight=nan", "losses.sts.rank_kl.weight=nan must be a finite number >= 0"),
        ("losses.sts.rank_kl.weight=inf", "losses.sts.rank_kl.weight=inf must be a finite number >= 0"),
        ("losses.sts.rank_kl.weight=much", "losses.sts.rank_kl.weight='much' must be a finite number >= 0"),
        ("losses.sts.rank_kl.weight=true", "losses.sts.rank_kl.weight=True must be a finite number >= 0"),
        ("losses.sts.rank_kl.weight=null", "losses.sts.rank_kl.weight=None must be a finite number >= 0"),
        ("losses.ir.info_nce.weight=0", "losses.ir: at least one term with a weight above 0 is needed"),
        ("losses.ir.info_nce.temperature=0.0", "losses.ir.info_nce: temperature must be a finite number"),
        ("losses.sts.rank_kl.temperature=-1", "losses.sts.rank_kl: temperature must be a finite number "),
        ("losses.sts.pro.temperature=nan", "sts.pro: temperature must be a finite number above 0, got nan"),
        ("+losses.ir.info_nce.margin_percent=95", "losses.ir.info_nce: margin_percent must be a share above"),
        ("+losses.ir.info_nce.margin_percent=nan", "margin_percent must be a share above 0 and at most 1 ("),
        ("+losses.ir.info_nce.margin_absolute=inf", "losses.ir.info_nce: margin_absolute must be a differen"),
        ("+losses.ir.info_nce.chunk_rows=0", "losses.ir.info_nce: chunk_rows must be an integer of at least"),
        ("+losses.sts.mid_nce.min_score=5", "sts.mid_nce: min_score must be in 0..1, as scores are, got 5"),
        ("+losses.sts.pearson.eps=0", "losses.sts.pearson: eps must be a finite number above 0, got 0"),
        ("losses.sts.pro=null", "losses.sts.pro needs a _target_"),
        ("losses.ir=null", "losses.ir needs at least one term"),
        ("~losses.sts", "tasks.sts has no losses.sts; add it"),
        ("+losses.rerank.info_nce.weight=1", "losses.rerank: unknown task; known tasks: ir, lm, mixed, sts"),
        ("+tasks={rerank: {global_batch_size: 8}}", "tasks.rerank: unknown task; known tasks: ir, lm, mix"),
        ("model.middle_layer=null", "losses.sts.mid_nce needs model.middle_layer=middle, or losses.sts.m"),
        ("model.attention=causla", "model.attention='causla' is none of bidirectional, causal"),
        ("export.dtype=float8", "export.dtype='float8' is none of float32, bfloat16, float16"),
        ("export.push_to_hub=model", "export.push_to_hub=model must be USER/NAME"),
        ("export.push_to_hub=a/b/c", "export.push_to_hub=a/b/c: Repo id must be in the form"),
        ("export.onnx=true", "export.onnx=true: not for a youtu: sentence-transformers' backend passes no p"),
        ("export={enabled: false, push_to_hub: a/b}", "export.push_to_hub needs what export.enabled=false d"),
        ("data.on_error=ignore", "data.on_error='ignore' must be raise or skip"),
        ("encoder.encode_precision=bf16", "encoder.encode_precision='bf16' must be 32-true or bf16-mixed or"),
        ("data.num_workers=-1", "data.num_workers=-1 must be at least 0"),
        ("data.prefetch=0", "data.prefetch=0 must be at least 1"),
        ("tasks.ir.global_batch_size=0", "tasks.ir.global_batch_size=0 must be at least 1"),
        ("tasks.sts.max_query_tokens=0", "tasks.sts.max_query_tokens=0 must be at least 1"),
        ("tasks.ir.num_positives=0", "tasks.ir.num_positives=0 must be at least 1"),
        ("tasks.ir.num_negatives=-1", "tasks.ir.num_negatives=-1 must be at least 0"),
        ("+losses.ir.a._target_=codiemb.losses.Pearson", "losses.ir.a: codiemb.losses.Pearson is no loss"),
        ("+losses.ir.a._target_=codiemb.losses.MidLayerInfoNCE", "is no loss for task ir; see conf/losses"),
        ("+losses.sts.a._target_=codiemb.losses.DistillKL", "losses.sts.a: codiemb.losses.DistillKL is no l"),
        ("+losses.sts.a._target_=codiemb.losses.MarginMSE", "is no loss for task sts; see conf/losses"),
        ("strategy.name=deepspeed_stage_2", "strategy.name='deepspeed_stage_2' can only be auto; others are"),
        ("tasks.ir.mask_share=0.2", "tasks.ir.mask_share says nothing about task ir; set it to null"),
        ("+losses.lm.a._target_=codiemb.losses.InfoNCE", "losses.lm.a: codiemb.losses.InfoNCE is no loss"),
        ("+losses.ir.a._target_=codiemb.losses.TokenPrediction", "is no loss for task ir; see conf/losses"),
        ("seed=-1", "seed=-1 must be at least 0"),
        ("seed=5000000000", "seed=5000000000 must be below 2**32"),
        ("epochs=0", "epochs=0.0 must be a finite number above 0"),
        ("epochs=nan", "epochs=nan must be a finite number above 0"),
        ("max_steps=0", "max_steps=0 must be at least 1"),
        ("schedule.name=lineer", "schedule.name='lineer' is unknown; did you mean linear?"),
        ("model.learning_rate=-1.0", "optimizer.lr=-1.0 must be a finite number of at least 0"),
        ("trainer.gradient_clip_val=-1", "trainer.gradient_clip_val=-1 must be at least 0; 0 and null clip"),
        ("model.lora.lora_alpha=0", "model.lora.lora_alpha=0 must be at least 1: adapters count lora_alpha"),
        ("model.lora.lora_dropout=1", "model.lora.lora_dropout=1.0 must be a share from 0 on, below 1"),
        ("data.score_range=[0,5]", "data.score_range=[0.0, 5.0] is that of data.files, and there are none:"),
        ("schedule.name=constant", "schedule.name=constant has no warm-up, and schedule.warmup_ratio=0.03 "),
        ("head_learning_rate=0.1", "head_learning_rate=0.1 is for a language-model head (stage=pretrain), "),
        ("tasks.ir.predict_from=mask", "tasks.ir.predict_from=mask says what predicts a masked token, and t"),
        ("schedule.warmup_ratio=3", "schedule.warmup_ratio=3 must lie in 0..1"),
        ("sampler={_target_: codiemb.data.SizePower, alpha: 2}", "sampler.alpha=2 must lie in 0..1"),
        ("sampler={_target_: codiemb.data.SizePower}", "sampler (codiemb.data.SizePower) also needs alpha"),
        ("data.sources.docs_ir=null", "data.sources.docs_ir=None must be {path: FILE}; ~data.sources"),
        ("data.sources.frames_sts.score_range=wide", "data.sources.frames_sts: "),
        ("+data.sources.mine.score_range=[0,1]", "data.sources.mine: "),
        ("+data.sources.docs_ir.in_batch=maybe", "data.sources.docs_ir: "),
        ("+trainer.strategy=ddp", "trainer.strategy is decided by the group strategy"),
        ("+trainer.callbacks=null", "trainer.callbacks is decided by the group callbacks"),
        ("+trainer.use_distributed_sampler=true", "trainer.use_distributed_sampler is decided by the plan"),
        ("+trainer.max_steps=3", "trainer.max_steps is decided by max_steps=NUMBER or epochs=NUMBER, which "),
        ("+trainer.limit_train_batches=0.5", "trainer.limit_train_batches is decided by max_steps=NUMBER"),
        ("+trainer.overfit_batches=3", "trainer.overfit_batches is decided by max_steps=NUMBER, on a file"),
        ("+trainer.fast_dev_run=true", "trainer.fast_dev_run is decided by debug=default, ten steps"),
        ("+trainer.val_check_interval=50", "trainer.val_check_interval is decided by evaluate.every_n_steps"),
        ("trainer.max_epochs=3", "trainer.max_epochs=3 would replay the same batches; the length of"),
    ],
)  # fmt: skip
def test_an_impossible_value_is_named_with_what_is_possible(refused, override, message):
    if override.startswith("sampler="):
        override = "+" + override  # on top of the group's own choice
    assert message in refused(override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tasks.lm.mask_share=0.0", "tasks.lm.mask_share=0.0 must be a share above 0"),
        ("tasks.lm.mask_share=1.5", "tasks.lm.mask_share=1.5 must be a share above 0"),
        ("tasks.lm.predict_from=next", "tasks.lm.predict_from='next' must be previous, mask or embedding"),
        ("head_learning_rate=0", "head_learning_rate=0.0 must be a finite number above 0"),
        ("tasks.lm.num_windows=0", "tasks.lm.num_windows=0 must be at least 1"),
        ("tasks.lm.num_negatives=3", "tasks.lm.num_negatives says nothing about task lm"),
        (
            "tasks.lm.mask_share=null",
            "which bidirectional attention has seen already: set tasks.lm.mask_share",
        ),
        ("losses=codiemb", "tasks.lm has no losses.lm; add it, see conf/losses"),
        ("encoder.max_tokens_per_chunk=64", "tasks.lm.max_document_tokens=128 exceeds"),
    ],
)
def test_an_impossible_language_task_is_named(refused, override, message):
    assert message in refused("stage=pretrain", override)


def test_what_a_folder_says_about_its_attention_decides_whether_every_token_can_be_predicted(
    refused, composed, tmp_path
):
    for attention in ("causal", "bidirectional"):
        (tmp_path / SETTINGS_FILE).write_text(json.dumps({"model": {"attention": attention}}), "utf-8")
        said = ("stage=pretrain", "tasks.lm.mask_share=null", f"model.path={tmp_path}")
        if attention == "causal":
            preflight(typed_train(composed(*said)))
        else:
            assert "has seen already" in refused(*said, "model.attention=causal")


def test_a_loss_on_own_negatives_only_needs_some(refused, composed):
    own = "+losses.ir.info_nce.in_batch=false"
    said = refused(own, "tasks.ir.num_negatives=0")
    assert "losses.ir.info_nce.in_batch=false takes a record's own negatives only" in said
    preflight(typed_train(composed(own)))


def test_a_distillation_loss_needs_documents_to_compare(refused, composed):
    kl, margin = (f"+losses.ir.kd._target_=codiemb.losses.{name}" for name in ("DistillKL", "MarginMSE"))
    no_negatives, one_positive = "tasks.ir.num_negatives=0", "tasks.ir.num_positives=1"
    assert refused(margin, no_negatives).startswith(
        "losses.ir.kd compares a scored positive and a scored negative of one record, and there are none "
        "with tasks.ir.num_negatives=0"
    )
    assert refused(kl, no_negatives, one_positive).endswith("tasks.ir.num_negatives=0, num_positives=1")
    for possible in (
        (kl, no_negatives, "tasks.ir.num_positives=2"),
        (kl, one_positive),
        (margin, one_positive),
    ):
        preflight(typed_train(composed(*possible)))


def test_a_weight_of_zero_makes_a_middle_layer_unnecessary(composed):
    preflight(typed_train(composed("model.middle_layer=null", "losses.sts.mid_nce.weight=0")))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("seeed: 1", "seeed"),
        ("model: {poolin: cls}", "poolin"),
        ("tasks: {ir: {batch: 8}}", "batch"),
        ("export: {verfy: true}", "verfy"),
        ("trainer: {devicez: 2}", "trainer.devicez: no such key; did you mean devices?"),
        ("losses: {sts: {rank_kl: {temprature: 1}}}", "losses.sts.rank_kl.temprature"),
        ("losses: {sts: {rank_lk: {weight: 1}}}", "losses.sts.rank_lk needs a _target_"),
        ("optimizer: {betaz: [0.9, 0.95]}", "optimizer.betaz: no such key; did you mean betas?"),
        ("callbacks: {speed: {every: 1}}", "callbacks.speed.every"),
        ("data: {sources: {mine: {pth: a}}}", "data.sources.mine.pth: no such key; did you mean path?"),
        ("schedule: {warmup: 1}", "schedule.warmup: no such key; did you mean warmup_ratio?"),
    ],
)
def test_a_typo_in_an_experiment_file_is_one_error_that_names_the_key(composed, conf_copy, text, key):
    (conf_copy / "experiment" / "typo.yaml").write_text(f"# @package _global_\n{text}\n", "utf-8")
    with pytest.raises((UserError, HydraException, OmegaConfBaseException), match=re.escape(key)):
        preflight(typed_train(composed("experiment=typo")))


def test_an_experiment_without_typo_passes(composed, conf_copy):
    (conf_copy / "experiment" / "good.yaml").write_text("# @package _global_\nseed: 5\n", "utf-8")
    preflight(typed_train(composed("experiment=good")))


@pytest.mark.parametrize(
    ("override", "key"),
    [("+model.poolin=cls", "model.poolin"), ("+sed=3", "sed"), ("+task.tsks=[a]", "task.tsks")],
)
def test_evaluation_refuses_unknown_keys_too(composed, override, key):
    with pytest.raises(UserError, match=f"^{key}: no such key; did you mean"):
        typed_eval(composed(override, root="eval"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=files"], r"no training file: set data.files=\[a.jsonl,b.jsonl\] or data=builtin"),
        (["data=files", "data.files=[a/x.jsonl,b/x.jsonl]"], "two training files are named 'x'; use "),
        (["data.files=[docs_ir.jsonl]"], "two training files are named 'docs_ir'"),
        (
            ["data=files", "data.files=[a]", "data.score_range=[1]"],
            r"data.score_range=\[1.0\] must be \[lowest",
        ),
        (["data.sources.frames_sts.score_range=[0,1,2]"], "data.sources.frames_sts.score_range=.* must be "),
    ],
)
def test_impossible_lists_of_files_are_refused_before_a_file_is_read(composed, overrides, message):
    with pytest.raises(UserError, match=message):
        source_files(typed_train(composed(*overrides)).data)


def test_keys_of_nested_targets_are_checked():
    matryoshka = {"_target_": "codiemb.losses.Matryoshka", "dims": [8]}
    check_node("losses.ir.m", matryoshka | {"loss": {"_target_": "codiemb.losses.InfoNCE", "temperature": 1}})
    with pytest.raises(UserError, match=r"losses\.ir\.m\.loss\.tau: no such key"):
        check_node("losses.ir.m", matryoshka | {"loss": {"_target_": "codiemb.losses.InfoNCE", "tau": 1}})
    with pytest.raises(UserError, match=r"m\.loss\.tau: no such key"):
        check_node("m", matryoshka | {"loss": [{"_target_": "codiemb.losses.InfoNCE", "tau": 1}]})


def test_a_constructor_that_refuses_is_the_users_error_and_a_crash_is_not(monkeypatch):
    with pytest.raises(UserError, match=r"^optimizer: .*"):
        build_node("optimizer", {"_target_": "torch.nn.Linear", "in_features": "many", "out_features": 1})
    with pytest.raises(Exception, match="division") as error:
        build_node("x", {"_target_": "operator.truediv", "_args_": [1, 0]})
    assert not isinstance(error.value, UserError)


def test_a_task_whose_texts_exceed_the_chunk_budget_is_refused(composed):
    with pytest.raises(UserError, match=r"tasks\.ir\.max_query_tokens=64 exceeds .*max_tokens_per_chunk=32"):
        preflight(typed_train(composed("encoder.max_tokens_per_chunk=32")))
    preflight(typed_train(composed("encoder.max_tokens_per_chunk=4096")))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("cosine_with_min_lr", "needs settings that the group has not"),
        ("warmup_stable_decay", "needs settings that the group has not"),
        ("reduce_lr_on_plateau", "follows a score"),
    ],
)
def test_a_schedule_that_a_run_could_not_build_is_refused_before_it(refused, name, says):
    said = refused(f"schedule.name={name}")
    assert f"schedule.name={name!r}" in said
    assert says in said


def test_settings_of_adapters_that_are_not_there_are_told(composed, caplog):
    preflight(typed_train(composed("model.lora.r=4", "model.lora.lora_alpha=64")))
    assert not caplog.text
    preflight(typed_train(composed("model.lora.lora_alpha=64")))
    assert "model.lora.lora_alpha=64 has no effect: model.lora.r=0 trains all weights" in caplog.text


def test_a_constant_rate_without_a_warm_up_is_a_schedule(composed):
    preflight(typed_train(composed("schedule.name=constant", "schedule.warmup_ratio=0")))


def test_checkpoints_are_switched_by_their_callback(refused, composed):
    assert "trainer.enable_checkpointing is decided by callbacks.checkpoint" in refused(
        "+trainer.enable_checkpointing=false"
    )
    cpu = ("logger=local", "trainer.accelerator=cpu")
    assert assemble.build_trainer(typed_train(composed(*cpu))).checkpoint_callback is not None
    without = assemble.build_trainer(typed_train(composed(*cpu, "callbacks.checkpoint=null")))
    assert without.checkpoint_callback is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("model=mteb", "model.name=a/b"), "model=mteb can be evaluated, not trained"),
        (("model=youtu_api",), "model=youtu_api can be evaluated, not trained"),
        (("model=youtu_embedding",), "model=youtu_embedding with model.native can be evaluated, not trained"),
    ],
)
def test_what_can_only_be_evaluated_is_not_trained(composed, overrides, message):
    with pytest.raises(UserError, match=message):
        preflight(typed_train(composed(*overrides)))
