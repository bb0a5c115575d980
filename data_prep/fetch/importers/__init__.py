"""Importers, one module for each layout of files. FILES says for each kind of file how a row becomes items.

Each entry is a function of one row and the recipe, and the usual names of the columns, ours -> theirs (`a|b`
where there are several, `a*` where one of ours lies in several); `columns` of a recipe goes before them.
"""

from importlib import import_module

from codiemb.errors import UserError
from data_prep.fetch.raw import Converts

IMPORTERS = (
    "beir",
    "codiemb",
    "flag_embedding",
    "labelled",
    "messages",
    "pairs",
    "tables",
    "tevatron",
    "triples",
)


def load_importer(name: str) -> Converts:
    """How the files of a layout are read.

    Raises:
        UserError: there is no such importer.
    """
    if name not in IMPORTERS:
        raise UserError(f"no importer {name!r}; there are {', '.join(IMPORTERS)}")
    converts: Converts = import_module(f"{__name__}.{name}").FILES
    return converts
