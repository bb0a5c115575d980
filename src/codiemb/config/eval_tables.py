"""`run_eval.py table=[A,B]` and `compare=[A,B]`: results that are there already, without a model.

Neither torch nor mteb is imported, unless a file has a layout that only mteb reads.
"""

from collections.abc import Callable
from pathlib import Path

from codiemb.atomic import write_text
from codiemb.config.result_arguments import result_folders
from codiemb.config.schema import EvalConfig
from codiemb.errors import UserError
from codiemb.evaluation.result_files import Results, read_results
from codiemb.tables import Sheet

Show = Callable[[Sheet], object]


def show_results(cfg: EvalConfig, show: Show) -> bool:
    """Show and save what `table` or `compare` asks for; False where neither does.

    Raises:
        UserError: both at once, or a folder without results of one model.
    """
    table, compare = result_folders("table", cfg.table), result_folders("compare", cfg.compare)
    if table and compare:
        raise UserError("table and compare are two questions: ask one at a time")
    if cfg.manifest and not table:
        raise UserError("manifest=FILE says something of a table: give table=[FOLDER] as well")
    if table:
        _table(table, Path(cfg.run_dir), show, cfg.manifest)
    if compare:
        _compare(compare, Path(cfg.run_dir), show)
    return bool(table or compare)


def _table(folders: list[Path], run_dir: Path, show: Show, manifest: str) -> None:
    from codiemb.evaluation.checked_tasks import checked_sheet
    from codiemb.evaluation.result_table import ResultTable

    results = [_read("table", folder) for folder in folders]
    table = ResultTable(results)
    checked = [checked_sheet(table.tasks, results, Path(manifest))] if manifest else []
    table.save(run_dir)
    for sheet in checked:
        write_text(run_dir / "checked.md", sheet.markdown())
    for sheet in [*table.sheets(), *checked]:
        show(sheet)


def _compare(folders: list[Path], run_dir: Path, show: Show) -> None:
    from codiemb.evaluation.comparison import compare, save_comparison

    first, second = (_read("compare", folder) for folder in folders)
    comparison = compare(first, second)
    save_comparison(comparison, run_dir)
    for sheet in comparison.sheets():
        show(sheet)


def _read(key: str, folder: Path) -> Results:
    try:
        return read_results(folder)
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
