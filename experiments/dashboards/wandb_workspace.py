"""Make a W&B workspace with our panels: `python -m experiments.dashboards.wandb_workspace ENTITY`.

Needs an account (`wandb login`) and the extra `dashboards`, which `make setup` installs. With --dry-run it
only builds the definition and prints it.
"""

import argparse
from typing import Any

from experiments.dashboards.panels import SECTIONS


def workspace(entity: str, project: str) -> Any:  # noqa: ANN401  an optional package's class
    """A saved view with one line panel per entry of SECTIONS, over optimizer steps."""
    import wandb_workspaces.reports.v2 as panel
    import wandb_workspaces.workspaces as view

    sections = [
        view.Section(
            name=name,
            is_open=True,
            panels=[
                panel.LinePlot(
                    title=title,
                    x="trainer/global_step",
                    metric_regex=f"^{pattern}$",
                    smoothing_type="exponentialTimeWeighted",
                    smoothing_factor=0.6,
                    smoothing_show_original=True,
                )
                for title, pattern in panels
            ],
        )
        for name, panels in SECTIONS.items()
    ]
    return view.Workspace(entity=entity, project=project, name="CoDiEmb", sections=sections)


def main() -> None:
    """Build it; save it unless --dry-run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("entity", help="your W&B user or team")
    parser.add_argument("--project", default="codiemb")
    parser.add_argument("--dry-run", action="store_true", help="print the definition, need no account")
    arguments = parser.parse_args()
    built = workspace(arguments.entity, arguments.project)
    if arguments.dry_run:
        print(built._to_model().model_dump_json(indent=2))
    else:
        print(built.save().url)


if __name__ == "__main__":
    main()
