"""`import vividtalk_core as vt`: few names, found when they are used, at no cost before."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vividtalk_core as vt

ROOT = Path(__file__).resolve().parents[1]


def python(code):
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_import_loads_no_heavy_package():
    heavy = {"torch", "numpy", "av", "cv2", "transformers", "kornia", "safetensors", "huggingface_hub"}
    assert not heavy & set(python("import sys, vividtalk_core; print(*sys.modules)"))


def test_an_error_can_be_caught_without_torch():
    assert "torch" not in python("import sys; from vividtalk_core import VividTalkError; print(*sys.modules)")


def test_every_public_name_is_found():
    for name in vt.__all__:
        assert getattr(vt, name) is not None
    assert set(vt.__all__) <= set(dir(vt))
    assert vt.__all__ == sorted(vt.__all__)


def test_there_are_few_public_names():
    assert len(vt.__all__) <= 12


def test_public_functions_say_what_they_do():
    assert all(getattr(vt, name).__doc__ for name in vt.__all__ if name != "__version__")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'vividtalk_core' has no attribute 'speak'"):
        vt.speak  # noqa: B018
    with pytest.raises(ImportError, match="speak"):
        from vividtalk_core import speak  # noqa: F401


def test_a_type_checker_finds_each_name_where_it_is_loaded_from():
    """Checkers read the imports that never run: they must be the same names as those that are loaded lazily."""
    tree = ast.parse((ROOT / "vividtalk_core" / "__init__.py").read_text(encoding="utf-8"))
    (checked,) = (n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    assert {alias.name: node.module for node in checked.body for alias in node.names} == vt._HOMES
    assert {*vt._HOMES, "__version__"} == set(vt.__all__)
    assert (ROOT / "vividtalk_core" / "py.typed").is_file()
    assert '"vividtalk_core" = ["py.typed"]' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    # a module-level __getattr__ that a checker sees would give every misspelt name the type Any
    assert not any(isinstance(n, ast.FunctionDef) and n.name == "__getattr__" for n in tree.body)
