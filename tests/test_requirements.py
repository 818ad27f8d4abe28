"""requirements.txt, pyproject.toml and the Makefile must name the same packages."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def names(text: str) -> list[str]:
    return re.findall(r'"([^"]+)"', text)


def list_in_pyproject(key: str) -> list[str]:
    """The strings of `key = [...]`; read by hand, Python 3.10 has no tomllib."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return names(re.search(rf"^{key} = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)[1])


def test_requirements_equal_pyproject():
    requirements = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    assert requirements == list_in_pyproject("dependencies")


def test_only_lower_bounds():
    packages = [re.fullmatch(r"([\w-]+)>=[\d.]+", line) for line in list_in_pyproject("dependencies")]
    assert all(packages), "a newer version must never be refused"
    assert {match[1] for match in packages} == {
        "torch", "transformers", "numpy", "opencv-python", "kornia", "safetensors", "huggingface-hub", "einops", "av",
        "tqdm",
    }  # fmt: skip


@pytest.mark.parametrize("extra", ["dev", "train"])
def test_makefile_installs_what_the_tests_need(extra):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    line = re.search(rf"^{extra.upper()} := (.*)$", makefile, re.MULTILINE)
    assert names(line[1]) == list_in_pyproject(extra)
    assert re.search(rf"install -c constraints.txt .*\$\({extra.upper()}\)", makefile)


def test_torch_is_pinned_for_this_environment_only():
    assert (ROOT / "constraints.txt").read_text(encoding="utf-8").split() == ["torch==2.13.0"]


def test_what_runs_is_what_is_declared():
    """No module of the core imports a package that is neither declared nor a build-time extra."""
    declared = {re.split(r"[>=]", line)[0] for line in list_in_pyproject("dependencies")}
    modules = {"cv2" if name == "opencv-python" else name.replace("-", "_") for name in declared}
    forbidden = {"torchaudio", "torchvision", "mediapipe", "insightface", "PIL", "scipy", "requests"}
    for path in (ROOT / "vividtalk_core").rglob("*.py"):
        if path.parent.name == "assets":
            continue
        found = set(re.findall(r"^\s*(?:import|from) ([a-zA-Z_]\w*)", path.read_text(encoding="utf-8"), re.MULTILINE))
        assert not found & (forbidden - modules), f"{path.name} imports {found & forbidden}"


def test_the_version_is_the_same_everywhere():
    import vividtalk_core

    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    version = re.search(r'^version = "(.+)"', text, re.MULTILINE)[1]
    assert vividtalk_core.__version__ == version
    assert f"## {version}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
