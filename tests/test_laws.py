"""The laws of the code base, read from its syntax: who may import what, and what nobody may do."""

import ast
import functools
from collections.abc import Iterator

import pytest

from tests.support.paths import ROOT

SRC = ROOT / "src"
PACKAGE = {
    ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((SRC / "codiemb").rglob("*.py"))
}
SCRIPTS = {path.stem: path for path in sorted(ROOT.glob("run_*.py"))}
ALL_CODE = PACKAGE | SCRIPTS | {str(p.relative_to(ROOT)): p for p in (ROOT / "data_prep").rglob("*.py")}

# Lower layers first; a module imports its own layer or lower ones. The first prefix that fits decides.
LAYERS = [
    [
        "codiemb.errors",
        "codiemb.near",
        "codiemb.on_demand",
        "codiemb.mteb_source",
        "codiemb.differences",
        "codiemb.stop",
        "codiemb.start_watch",
        "codiemb.atomic",
        "codiemb.hub",
        "codiemb.json_files",
        "codiemb.raw_files",
        "codiemb.batch",
        "codiemb.take_rows",
        "codiemb.distributed",
        "codiemb.tables",
        "codiemb.cmteb_names",
        "codiemb.task_names",
        "codiemb.text_encoder",
        "codiemb.result_folder",
        "codiemb.metrics",
        "codiemb.progress",
    ],
    ["codiemb.losses"],
    ["codiemb.encoder"],
    ["codiemb.lexical"],
    ["codiemb.data"],
    ["codiemb.mining"],
    ["codiemb.task_files", "codiemb.evaluation", "codiemb.export", "codiemb.fusion", "codiemb.report"],
    ["codiemb.training"],
    ["codiemb.callbacks"],
    ["codiemb.config"],
]
LIGHTNING_RIM = ("codiemb.training", "codiemb.callbacks", "codiemb.config")


def imports(source: str, module: str) -> Iterator[str]:
    """Full names of everything imported anywhere in a file, in functions and under TYPE_CHECKING as well."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_in(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def modules_importing(*packages: str) -> set[str]:
    return {
        name
        for name, path in ALL_CODE.items()
        if any(is_in(used, *packages) for used in imports(path.read_text("utf-8"), name))
    }


def layer(module: str) -> int:
    for level, packages in enumerate(LAYERS):
        if is_in(module, *packages):
            return level
    raise AssertionError(f"{module} has no place in the order of dependencies; add it to LAYERS")


def test_hydra_and_omegaconf_stay_in_the_config_package_and_the_scripts():
    users = modules_importing("hydra", "omegaconf")
    assert {name for name in users if not is_in(name, "codiemb.config") and name not in SCRIPTS} == set()
    assert {"codiemb.config.typed", "codiemb.config.schema", "run_train"} <= users  # the test can see them


def test_lightning_stays_at_the_rim():
    users = modules_importing("pytorch_lightning", "lightning")
    assert {name for name in users if not is_in(name, *LIGHTNING_RIM) and name not in SCRIPTS} == set()
    assert "codiemb.training.module" in users


def test_the_package_never_imports_data_prep_or_a_script():
    users = modules_importing("data_prep", *SCRIPTS)
    assert {name for name in users if name in PACKAGE} == set()
    assert any(name.startswith("data_prep") for name in users)


@pytest.mark.parametrize("module", [name for name in PACKAGE if name != "codiemb"])
def test_a_module_imports_its_own_layer_or_lower_ones(module):
    for used in imports(PACKAGE[module].read_text("utf-8"), module):
        if is_in(used, "codiemb") and used != "codiemb":
            assert layer(used) <= layer(module), f"{module} imports {used}"


def test_no_module_imports_itself_in_a_circle():
    graph = {name: set(_targets(name)) - {name} for name in PACKAGE}
    assert sum(map(len, graph.values())) > 50
    while graph:
        leaves = {name for name, used in graph.items() if not used & graph.keys()}
        assert leaves, f"import cycle among {sorted(graph)}"
        graph = {name: used for name, used in graph.items() if name not in leaves}


def _targets(name: str) -> Iterator[str]:
    """The modules that a module imports from; a name that a package re-exports stands for the package."""
    for used in imports(PACKAGE[name].read_text("utf-8"), name):
        while used and used not in PACKAGE:
            used = used.rpartition(".")[0]
        if used:
            yield used


@pytest.mark.parametrize("package", ["data", "encoder", "evaluation", "fusion", "training"])
def test_a_package_whose_names_are_imported_on_demand_lists_them_once_and_right(package):
    """For mypy, for `import *` and for `on_demand`; a module of the same name would hide the name."""
    tree = ast.parse(PACKAGE[f"codiemb.{package}"].read_text("utf-8"))
    assigned = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}
    shown = ast.literal_eval(assigned["__all__"])
    by_module = ast.literal_eval(assigned["__getattr__"].args[1])
    found = {name: f"codiemb.{package}.{module}" for module, names in by_module.items() for name in names}
    for_mypy = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and is_in(node.module, f"codiemb.{package}")
        for alias in node.names
    }
    assert sorted(shown) == sorted(found)
    assert found == for_mypy
    assert not {f"codiemb.{package}.{name}" for name in shown} & PACKAGE.keys()


# What nobody may do

FORBIDDEN = {
    "print": lambda node: _calls(node, "print"),
    "pickle": lambda node: _unpickles(node),
    "eval and exec": lambda node: _calls(node, "eval", "exec"),
    "os.system": lambda node: isinstance(node, ast.Attribute) and node.attr in ("system", "popen"),
    "trust_remote_code=True": lambda node: _sets(node, "trust_remote_code", True),
    "weights_only=False": lambda node: _sets(node, "weights_only", False),
    "shell=True": lambda node: _sets(node, "shell", True),
    "allow_pickle=True": lambda node: _sets(node, "allow_pickle", True),
    "a file's lines by splitlines": lambda node: _splits_a_file(node),
}
EXAMPLES = {
    "print": "print(1)",
    "pickle": "pickle.loads(b'')",
    "eval and exec": "eval('1')",
    "os.system": "os.system('ls')",
    "trust_remote_code=True": "f(trust_remote_code=True)",
    "weights_only=False": "@dataclass\nclass A:\n    weights_only: bool = False",
    "shell=True": "run('x', **{'shell': True})",
    "allow_pickle=True": "def f(allow_pickle=True): ...",
    "a file's lines by splitlines": "path.read_text().splitlines()",
}


def _unpickles(node: ast.AST) -> bool:
    """Any use of a pickling package but naming its exceptions."""
    if isinstance(node, ast.Attribute) and getattr(node.value, "id", None) == "pickle":
        return not node.attr.endswith("Error")
    if isinstance(node, ast.Import):
        return any(is_in(alias.name, "dill", "cloudpickle") or alias.asname for alias in _pickles(node))
    return isinstance(node, ast.ImportFrom) and is_in(node.module or "", "pickle", "dill", "cloudpickle")


def _pickles(node: ast.Import) -> list[ast.alias]:
    return [alias for alias in node.names if is_in(alias.name, "pickle", "dill", "cloudpickle")]


def _splits_a_file(node: ast.AST) -> bool:
    """U+2028 and its like end no line of JSON (codiemb.json_files)."""
    call = node.value if isinstance(node, ast.Attribute) and node.attr == "splitlines" else None
    read = call.func if isinstance(call, ast.Call) else None
    return isinstance(read, ast.Attribute) and read.attr in ("read", "read_text", "read_bytes")


def _calls(node: ast.AST, *names: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names


def _sets(node: ast.AST, name: str, value: bool) -> bool:
    """A keyword, an assignment, a default or a dictionary entry `name` of this constant value."""
    pairs: list[tuple[str | None, ast.AST | None]] = []
    if isinstance(node, ast.keyword):
        pairs = [(node.arg, node.value)]
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        pairs = [(getattr(target, "id", getattr(target, "attr", None)), node.value) for target in targets]
    elif isinstance(node, ast.Dict):
        pairs = [
            (getattr(key, "value", None), inner) for key, inner in zip(node.keys, node.values, strict=True)
        ]
    elif isinstance(node, ast.arguments):
        positional = [*node.posonlyargs, *node.args]
        given = zip(positional[len(positional) - len(node.defaults) :], node.defaults, strict=True)
        pairs = [(arg.arg, default) for arg, default in given]
        pairs += [(arg.arg, default) for arg, default in zip(node.kwonlyargs, node.kw_defaults, strict=True)]
    return any(key == name and getattr(inner, "value", None) is value for key, inner in pairs)


@pytest.mark.parametrize("rule", FORBIDDEN)
def test_what_is_forbidden_would_be_found(rule):
    assert any(FORBIDDEN[rule](node) for node in ast.walk(ast.parse(EXAMPLES[rule])))


@pytest.mark.parametrize("rule", FORBIDDEN)
def test_nobody_uses(rule):
    assert len(PACKAGE) > 40
    assert PACKAGE.keys() < ALL_CODE.keys()
    assert breaches()[rule] == []


@functools.cache
def breaches() -> dict[str, list[str]]:
    """By rule, the places that break it, from one reading of all code (1 s); scripts may print."""
    found: dict[str, list[str]] = {rule: [] for rule in FORBIDDEN}
    for name, path in ALL_CODE.items():
        rules = [rule for rule in FORBIDDEN if name in PACKAGE or rule != "print"]
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            for rule in rules:
                if FORBIDDEN[rule](node):
                    found[rule].append(f"{name}:{getattr(node, 'lineno', '?')}")
    return found


def test_no_config_trusts_remote_code_by_default():
    for path in (ROOT / "conf").rglob("*.yaml"):
        lines = [line.split("#")[0] for line in path.read_text("utf-8").splitlines()]
        assert not [line for line in lines if "trust_remote_code: true" in line.lower()], path


def test_the_shapes_of_every_module_that_states_any_are_checked_in_tests(pytestconfig):
    option = next(o for o in pytestconfig.getini("addopts") if o.startswith("--jaxtyping-packages="))
    *checked, checker = option.partition("=")[2].split(",")
    assert checker == "beartype.beartype"
    stating = [name for name in modules_importing("jaxtyping") if is_in(name, "codiemb")]
    assert len(stating) > 25
    assert [name for name in sorted(stating) if not is_in(name, *checked)] == []
