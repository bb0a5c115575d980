"""From the metrics of a run to the charts of its report: one function per section, [] where none."""

from collections.abc import Iterable

from markupsafe import Markup

from codiemb.report.charts import Points, Series, histogram_chart, line_chart, path_chart
from codiemb.report.read import Run

TASK_COLOURS = {"ir": "c1", "sts": "c2", "lm": "c3"}  # the same in every chart and in W&B
OTHER_COLOURS = ("c4", "c5", "c6", "c7", "c8")


def task_colours(tasks: Iterable[str]) -> dict[str, str]:
    """Every task's colour class; tasks that a later version adds get the remaining ones in turn."""
    spare = [task for task in tasks if task not in TASK_COLOURS]
    return TASK_COLOURS | {task: OTHER_COLOURS[i % len(OTHER_COLOURS)] for i, task in enumerate(spare)}


def losses(run: Run) -> list[Markup]:
    """The loss of each task, then each of its terms."""
    colours, charts = task_colours(run.tasks), []
    for task in run.tasks:
        name = f"train/loss/{task}"
        charts.append(line_chart(f"{task}: loss", [Series(task, colours[task], run.curves[name])]))
        terms = [key for key in run.curves if key.startswith(f"{name}/") and key.count("/") == 3]
        if len(terms) > 1:  # the only term is the loss
            charts += [
                line_chart(f"{task}: {key.split('/')[3]}", [Series(task, colours[task], run.curves[key])])
                for key in terms
            ]
    return charts


def contrast(run: Run) -> list[Markup]:
    """What each contrastive term sees: similarity of positives and hardest negatives, accuracy, masking."""
    colours, charts = task_colours(run.tasks), []
    for key in sorted(run.curves):
        prefix, _, last = key.rpartition("/")
        if last != "positive_similarity" or not prefix.startswith("train/loss/"):
            continue
        task = prefix.split("/")[2]
        name = prefix.removeprefix("train/loss/").replace("/", ": ", 1)
        pair = [
            Series("positive", "positive", run.curves[key]),
            Series(
                "hardest negative",
                "hard_negative",
                run.curves.get(f"{prefix}/hardest_negative_similarity", []),
            ),
        ]
        charts.append(line_chart(f"{name}, cosine", pair))
        for short, title in (("accuracy@1", "accuracy@1"), ("masked_share", "masked share of negatives")):
            curve = run.curves.get(f"{prefix}/{short}", [])
            if curve and (short != "masked_share" or any(value for _, value in curve)):
                charts.append(line_chart(f"{name}, {title}", [Series(task, colours[task], curve)]))
    return charts


def geometry(run: Run) -> list[Markup]:
    """Numbers of the embeddings' spread by task, the path of two, and the cosine of the gradients."""
    colours, charts = task_colours(run.tasks), []
    by_task = {
        kind: {
            task: run.curves[f"train/{kind}/{task}"]
            for task in run.tasks
            if f"train/{kind}/{task}" in run.curves
        }
        for kind in ("alignment", "uniformity", "effective_rank", "mean_cosine")
    }
    for kind, curves in by_task.items():
        if curves:
            series = [Series(task, colours[task], curve) for task, curve in curves.items()]
            charts.append(line_chart(kind.replace("_", " "), series))
    paths = [
        Series(task, colours[task], _joined(curve, by_task["uniformity"][task]))
        for task, curve in by_task["alignment"].items()
        if task in by_task["uniformity"]
    ]
    if any(path.points for path in paths):
        charts.append(path_chart("alignment and uniformity", paths, "alignment", "uniformity"))
    for key, curve in run.curves.items():
        if key.startswith("train/gradient_cosine/"):
            pair = key.rpartition("/")[2].replace("_", " and ")
            charts.append(line_chart(f"cosine of the gradients of {pair}", [Series(pair, "c4", curve)]))
    return charts


def development(run: Run) -> list[Markup]:
    """Dev metrics during training, one chart a dataset."""
    names = [key for key in run.curves if key.startswith("val/")]
    return [
        line_chart(
            key.removeprefix("val/").replace("/", ", "), [Series(key, "c5", run.curves[key])], smooth=False
        )
        for key in names
    ]


def optimisation(run: Run) -> list[Markup]:
    """Learning rate, gradient norm, speed, waiting and memory."""
    titles = {
        "train/grad_norm": "gradient norm, before clipping",
        "perf/tokens_per_second": "tokens per second",
        "perf/data_wait": "share of time waiting for data",
        "perf/peak_memory_mib": "peak memory, MiB",
    }
    rates = {key: f"learning rate ({key.removeprefix('lr-')})" for key in run.curves if key.startswith("lr-")}
    return [
        line_chart(title, [Series(title, "c6", run.curves[key])], smooth=False)
        for key, title in (rates | titles).items()
        if key in run.curves
    ]


def histograms(run: Run) -> list[Markup]:
    """Cosines of positives, hard negatives and other documents, at the first and the last look."""
    charts = []
    for source in dict.fromkeys(look["source"] for look in run.looks):
        looks = [look for look in run.looks if look["source"] == source and look["histograms"]]
        chosen = {look["step"]: look["histograms"] for look in (*looks[:1], *looks[-1:])}
        names = [f"step {step}" for step in chosen]
        if chosen:
            charts.append(histogram_chart(source, list(zip(names, chosen.values(), strict=True))))
    return charts


def _joined(first: Points, second: Points) -> list[tuple[float, float]]:
    """Two curves as one in the plane, at the steps that both have."""
    other = dict(second)
    return [(value, other[step]) for step, value in first if step in other]
