"""The README's commands are real ones, and what it points to exists."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import vividtalk_core
from vividtalk_core.cli.bench import write_wave
from vividtalk_core.cli.command import build_parser

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = list(ROOT.glob("*.md"))
CARDS = list((ROOT / "vividtalk_core" / "assets").glob("*.md"))


def shell_lines(text):
    """Commands in the fenced blocks, with their continuation lines joined and comments removed."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if language not in ("", "sh", "bash", "shell", "console"):
            continue
        for line in block.replace("\\\n", " ").splitlines():
            yield line.removeprefix("$ ").split(" #")[0].strip()


def test_the_readme_shows_how_to_start():
    lines = list(shell_lines((ROOT / "README.md").read_text(encoding="utf-8")))
    assert "make demo" in lines
    assert any(re.search(r"vividtalk_core talk |vividtalk talk ", line) for line in lines)


@pytest.mark.parametrize("path", [*DOCUMENTS, *CARDS], ids=lambda path: path.name)
def test_commands_are_understood(path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for line in shell_lines(path.read_text(encoding="utf-8")):
        if line.startswith("make "):
            assert set(re.findall(r"\b[a-z][a-z-]*\b(?!=)", line[5:])) <= targets, line
        match = re.match(r"(?:\S*python3? -m vividtalk_core|vividtalk) (.+)", line)
        if match:
            words = shlex.split(match[1])
            build_parser(words).parse_args(words)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text) + re.findall(r'(?:src|href)="([^"#]+)"', text)
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert not missing


def python_blocks():
    """The README's examples, and the one in the package's docstring."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    yield from re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = vividtalk_core.__doc__.split("\n\n", 1)[1].rsplit("\n\nThe names", 1)[0]
    yield textwrap.dedent(lines)


@pytest.mark.parametrize("code", list(python_blocks()))
def test_python_examples_run(code, tmp_path):
    """With a portrait and half a second of sound under the names that the examples use."""
    demo = ROOT / "vividtalk_core/assets/demo"
    shutil.copy(demo / "portrait.jpg", tmp_path / "me.jpg")
    waveform, rate = vividtalk_core.read_audio(demo / "speech.flac")
    write_wave(tmp_path / "hello.wav", waveform, rate, 0.5)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert vividtalk_core.read_video(tmp_path / "hello.mp4").frame_count == 12
