"""`run_eval.py table=[A,B]` and `compare=[A,B]`: results that are there already, without a model.

mteb takes seconds to import and is needed only once the folders are known to hold results: hence the imports
inside functions.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from codiemb.config.result_arguments import check_results, result_folders
from codiemb.config.schema import EvalConfig
from codiemb.errors import UserError

if TYPE_CHECKING:
    from codiemb.tables import Sheet

Show = Callable[["Sheet"], object]


def show_results(cfg: EvalConfig, show: Show) -> bool:
    """Show and save what `table` or `compare` asks for; False where neither does.

    Raises:
        UserError: both at once, or a folder without results of one model.
    """
    table, compare = result_folders("table", cfg.table), result_folders("compare", cfg.compare)
    if table and compare:
        raise UserError("table and compare are two questions: ask one at a time")
    if table:
        _table(table, Path(cfg.run_dir), show)
    if compare:
        _compare(compare, Path(cfg.run_dir), show)
    return bool(table or compare)


def _table(folders: list[Path], run_dir: Path, show: Show) -> None:
    check_results("table", [str(folder) for folder in folders])
    from codiemb.evaluation.result_files import read_results
    from codiemb.evaluation.result_table import ResultTable

    table = ResultTable([read_results(folder) for folder in folders])
    table.save(run_dir)
    for sheet in table.sheets():
        show(sheet)


def _compare(folders: list[Path], run_dir: Path, show: Show) -> None:
    check_results("compare", [str(folder) for folder in folders])
    from codiemb.evaluation.comparison import compare, save_comparison
    from codiemb.evaluation.result_files import read_results

    first, second = map(read_results, folders)
    comparison = compare(first, second)
    save_comparison(comparison, run_dir)
    for sheet in comparison.sheets():
        show(sheet)
