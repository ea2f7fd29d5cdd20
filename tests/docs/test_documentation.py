"""What the documentation says is tried: commands are parsed, links followed, YAML loaded, Python compiled.

Fenced blocks are read by their language: ``console`` and ``bash`` hold commands, ``python`` compiles, ``yaml`` is YAML.
A YAML block marked ``yaml title="sidecar.yaml"`` or ``yaml title="policies/..."`` is a whole file that must pass
``sidecar check``; blocks of one page with different titles are checked together.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from sidecar.cli import make_parser

ROOT = Path(__file__).parents[2]
INDEX = ROOT / "docs" / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^( *)```(\w*)([^\n]*)\n(.*?)^\1```\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True)
class Block:
    """A fenced block. ``line`` is that of its fence."""

    page: Path
    line: int
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks() -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in FENCE.finditer(text):
            title = TITLE.search(match[3])
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(page, line, match[2], title[1] if title else "", match[4]))
    return found


BLOCKS = blocks()


def commands(text: str) -> list[str]:
    """Every `sidecar ...` command: prompts, continuation lines, comments, `$(...)` and pipes are taken off."""
    found = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        plain = re.sub(r"^\s*\$ ", "", line).strip()
        for inner in re.findall(r"\$\((sidecar [^)]*)\)", plain):
            found.append(inner)
        plain = re.sub(r"^(export )?\w+=\$\(.*\)$", "", plain)
        plain = re.sub(r"^([A-Z_]+=\S+ )+", "", plain)
        plain = re.sub(r"^(\.venv/bin/|docker run .* (?=sidecar ))", "", plain)
        if plain.startswith("sidecar "):
            found.append(re.split(r"\s+(?:#|\||&&|>|2>|&$)", plain)[0])
    return found


SAID = [
    pytest.param(command, id=f"{block}: {command}")
    for block in BLOCKS
    if block.language in ("console", "bash", "sh", "shell")
    for command in commands(block.text)
]


@pytest.mark.parametrize("command", SAID)
def test_commands_are_understood(command: str) -> None:
    """By the real parser; a command line in the documentation that it refuses is a fault of one of the two."""
    words = shlex.split(command)[1:]
    if "--help" in words or "--version" in words:
        return
    parser = make_parser()
    try:
        parser.parse_args(words)
    except (SystemExit, argparse.ArgumentError) as error:
        raise AssertionError(f"`{command}` is refused by the parser") from error


def test_the_quick_start_is_among_the_commands() -> None:
    """Guards the reader above: it finds what the README begins with."""
    said = [command for block in BLOCKS if block.page.name == "README.md" for command in commands(block.text)]
    assert any(command.startswith("sidecar run --upstream") for command in said)
    assert any(command.startswith("sidecar keys create") for command in said)


def anchor(heading: str) -> str:
    """The fragment that GitHub gives a heading."""
    plain = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip().lower()))
    return plain.replace(" ", "-")


def targets(page: Path) -> list[tuple[Path, str]]:
    """(file, fragment) of every relative link outside code."""
    text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text()))
    found = []
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, fragment = link.partition("#")
        found.append(((page.parent / file).resolve() if file else page, fragment))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for file, fragment in targets(page):
        assert file.exists(), f"{page.name} links to {file}, which does not exist"
        if fragment and file.suffix == ".md":
            headings = {anchor(line.lstrip("#")) for line in file.read_text().splitlines() if line.startswith("#")}
            assert fragment in headings, f"{page.name} links to #{fragment} of {file.name}, which has no such heading"


def test_every_page_is_reachable_from_the_map() -> None:
    reached, open_pages = {INDEX}, [INDEX]
    while open_pages:
        for file, _ in targets(open_pages.pop()):
            if file.suffix == ".md" and file not in reached:
                reached.add(file)
                open_pages.append(file)
    missing = sorted(str(page.relative_to(ROOT)) for page in set((ROOT / "docs").rglob("*.md")) - reached)
    assert missing == []


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in ("yaml", "yml")], ids=str)
def test_yaml_is_yaml(block: Block) -> None:
    assert list(yaml.safe_load_all(block.text))


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "python"], ids=str)
def test_python_compiles(block: Block) -> None:
    """Top-level ``await`` and ``async with`` are allowed: examples stand inside somebody's coroutine."""
    compile(block.text, str(block), "exec", flags=0x2000)  # ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


def file_sets() -> dict[Path, list[Block]]:
    sets: dict[Path, list[Block]] = defaultdict(list)
    for block in BLOCKS:
        if block.title == "sidecar.yaml" or block.title.startswith("policies/"):
            sets[block.page].append(block)
    return sets


@pytest.mark.parametrize("page", file_sets(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_whole_files_pass_check(page: Path, tmp_path: Path) -> None:
    """Environment variables get a value long enough for a secret; a page without sidecar.yaml gets a plain one."""
    files = {block.title: block.text for block in file_sets()[page]}
    files.setdefault("sidecar.yaml", "policies: policies/\nupstreams: {api: {targets: ['http://127.0.0.1:9000']}}\n")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    names = re.findall(r"\$\{([A-Z_]+)", "".join(files.values()))
    done = subprocess.run(
        [str(Path(sys.executable).with_name("sidecar")), "check", "--config", "sidecar.yaml"],
        cwd=tmp_path,
        env=os.environ | dict.fromkeys(names, "a-value-that-is-long-enough-for-a-secret"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
