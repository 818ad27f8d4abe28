"""The README's commands are real ones, and what it points to exists."""

import re
import shlex
from pathlib import Path

import pytest

from vividtalk_core.cli.command import build_parser

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = list(ROOT.glob("*.md"))


def shell_lines(text):
    """Commands in the fenced blocks, with their continuation lines joined and comments removed."""
    for block in re.findall(r"^```(?:sh|bash|shell|console|)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            yield line.removeprefix("$ ").split("  #")[0].strip()


def test_the_readme_shows_how_to_start():
    lines = list(shell_lines((ROOT / "README.md").read_text(encoding="utf-8")))
    assert "make demo" in lines
    assert any(re.search(r"vividtalk_core talk |vividtalk talk ", line) for line in lines)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_are_understood(path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for line in shell_lines(path.read_text(encoding="utf-8")):
        if line.startswith("make "):
            assert set(re.findall(r"\b[a-z][a-z-]*\b(?!=)", line[5:])) <= targets, line
        match = re.match(r"(?:\S*python3? -m vividtalk_core|vividtalk) (.+)", line)
        if match:
            build_parser().parse_args(shlex.split(match[1]))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text) + re.findall(r'(?:src|href)="([^"#]+)"', text)
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert not missing
