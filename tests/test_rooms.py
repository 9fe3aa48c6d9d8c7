"""The rooms and their one direction: kernels <- engine <- agent; and what no file of the product has."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("kernels", "engine", "agent")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
PRODUCT = [ROOT / "__init__.py", ROOT / "setup.py", *FILES]


def parse(path):
    return ast.parse(path.read_text("utf-8"), str(path))


def imports(path):
    """Dotted names of what a file imports, relative ones made absolute ("longhand.engine.config"), at any depth."""
    package = ("longhand", *path.relative_to(ROOT).parent.parts)
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            home = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*home, *([node.module] if node.module else [])))
            yield base
            for alias in node.names:
                yield f"{base}.{alias.name}"


def room_of(name):
    """The room that a dotted name leads to, whether it is imported as longhand.<room> or as a top-level <room>."""
    parts = name.split(".")
    if parts[0] == "longhand":
        parts = parts[1:]
    return parts[0] if parts and parts[0] in (*ROOMS, "tests", "benchmarks") else None


def calls(tree):
    """(name, attribute or None) of each call: eval(...) is ("eval", None), torch.load(...) is ("torch", "load")."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                yield node.func.id, None
            elif isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
                yield node.func.value.id, node.func.attr


def test_the_reader_of_imports(tmp_path, monkeypatch):
    """The checks below are worth what this function sees."""
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / "kernels" / "x.py"
    path.parent.mkdir()
    path.write_text(
        "from ..engine.config import A\ndef f():\n    from .. import agent\n    import engine.session as s\n"
        "from longhand.agent import B\nfrom . import reference\nimport tests.y\nfrom .dispatch import Ops\n"
        "import torch\n"
    )
    found = [room_of(name) for name in imports(path)]
    assert {"engine", "agent", "tests", "kernels", None} == set(found)
    assert found.count("engine") == 3
    assert found.count("agent") == 3


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_arrow(path):
    room = path.relative_to(ROOT).parts[0]
    allowed = {*ROOMS[: ROOMS.index(room) + 1], None}
    wrong = {name for name in imports(path) if room_of(name) not in allowed}
    assert not wrong
    # The face of the package leads to every room: nothing inside goes through it.
    faces = {"longhand", "longhand.Agent", "longhand.Engine", "longhand.SamplingParams", "longhand.Budget"}
    assert not faces.intersection(imports(path)) - ({"longhand"} if room == "agent" else set())


def test_rooms_reach_each_other_by_relative_imports_only():
    for path in FILES:
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Import):
                assert not any(room_of(alias.name) for alias in node.names), path
            elif isinstance(node, ast.ImportFrom) and not node.level:
                assert room_of(node.module) is None, path


def test_kernels_does_nothing_when_it_is_imported():
    """bitsandbytes and transformers import any top-level module of this name."""
    path = ROOT / "kernels" / "__init__.py"
    assert not list(imports(path))
    assert all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in parse(path).body)


def test_oracles_and_optional_libraries_stay_where_they_belong():
    homes = {
        "transformers": set(), "accelerate": set(), "pytest": set(), "hypothesis": set(),
        "bitsandbytes": {"kernels/bitsandbytes_ops.py"},
        "huggingface_hub": {"engine/hub.py"},
        "matplotlib": {"agent/bench_plot.py", "agent/demo/curve.py"},
        "safetensors": {"engine/checkpoint.py", "engine/store.py", "agent/demo/model.py", "agent/demo/state.py",
                            "agent/meaning.py"},
    }  # fmt: skip
    for path in FILES:
        name = path.relative_to(ROOT).as_posix()
        libraries = {found.split(".")[0] for found in imports(path)}
        for library, files in homes.items():
            assert library not in libraries or name in files, (name, library)
        if name.startswith("kernels/"):
            assert not libraries & {"tokenizers", "numpy", "json"}, name
        # Training is about tensors, and what prepares a command asks torch whether there is a GPU; the rest knows text.
        if name.startswith("agent/") and not name.startswith(("agent/demo/", "agent/prepare.py")):
            assert "torch" not in libraries, f"{name}: the agent knows text, not tensors"


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_no_file_has(path):
    source = path.read_text("utf-8")
    assert "trust_remote_code" not in source
    modules = {name.split(".")[0] for name in imports(path)}
    assert not modules & {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    for name, attribute in calls(parse(path)):
        assert name not in ("eval", "exec", "compile", "__import__") or attribute
        assert (name, attribute) not in {("torch", "load"), ("torch", "save"), ("builtins", "eval"), ("np", "load")}


BLOCKED = ("bitsandbytes", "typer", "rich", "tavily", "huggingface_hub", "transformers", "accelerate", "triton",
           "kernels", "requests", "httpx", "openai")  # fmt: skip

SMALL_INSTALL = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            tried.add(name)
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

blocked, tried = set(sys.argv[2:]), set()
sys.meta_path.insert(0, Blocker())

import longhand
assert not {"torch", "tokenizers", "safetensors"} & set(sys.modules), "import longhand is lazy"
assert longhand.DEMO.name == "checkpoint"
from longhand import Engine, LonghandError, SamplingParams

engine = Engine.from_pretrained(sys.argv[1], device="cpu")
assert not tried - {"triton"}, tried  # torch looks for triton by itself

# importlib's way to say "not installed": from here on NF4 falls back on plain torch, and a hub id says what to install.
sys.meta_path.pop(0)
sys.modules.update(dict.fromkeys(blocked))
engine = Engine.from_pretrained(sys.argv[1], device="cpu", quantization="nf4")
session = engine.session()
session.feed(engine.tokenizer.encode("The old tower"))
assert len(list(session.generate(3, (), SamplingParams(temperature=0)))) == 3
try:
    Engine.from_pretrained("owner/name")
except LonghandError as error:
    assert "pip install huggingface_hub" in str(error)
else:
    raise AssertionError
print("done")
"""


def test_engine_works_with_its_four_libraries_only(tiny_folder):
    run = subprocess.run(
        [sys.executable, "-c", SMALL_INSTALL, str(tiny_folder), *BLOCKED],
        capture_output=True, text=True, timeout=100, cwd=tiny_folder, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout == "done\n"


def test_the_public_face():
    import longhand

    assert set(longhand.__all__) >= {"Engine", "Agent", "SamplingParams", "DEMO"}
    for name in longhand.__all__:
        assert getattr(longhand, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        longhand.Nothing  # noqa: B018
