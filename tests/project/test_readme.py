"""The pages are correct: their Python blocks run as printed, and their links and file names exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.namespaces import unique, why_not

ROOT = Path(__file__).resolve().parent.parent.parent
README = ROOT / "README.md"
WHY_NOT = why_not()
MADE_UP = {"examples/NAME.py", "driver/step.py"}  # stand for any file
FOLDERS = ("driver", "hw", "rings", "examples", "tests", ".github")
PAGES = [
    Path("README.md"),
    *sorted(page.relative_to(ROOT) for name in FOLDERS for page in ROOT.glob(f"{name}/**/*.md")),
]


def python_block(page: Path, number: int = 0) -> str:
    """A Python block of a page, with unique names for its interfaces."""
    program = str(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)[number])
    for name in ("ix0", "left", "right"):
        program = program.replace(f"tap={name}", f"tap={unique(name)}")
    return program


def test_the_ten_lines_of_the_first_screen_run_as_printed(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(python_block(README), "README.md", "exec"), {})
    assert capsys.readouterr().out == ("60 " + "ff " * 13 + "ff\n") * 4


def test_the_lines_of_threads_run_as_printed(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(python_block(README, 1), "README.md", "exec"), {})
    assert capsys.readouterr().out == "".join(f"queue {k} of emulated:loop received 50 frames\n" for k in range(2))


def test_the_lines_of_selectors_run_as_printed(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(python_block(README, 2), "README.md", "exec"), {})
    assert capsys.readouterr().out == "1 60\n2 60\n3 60\n4 60\n"


def test_the_lines_of_asyncio_run_as_printed(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(python_block(README, 3), "README.md", "exec"), {})
    assert capsys.readouterr().out == "1 60\n2 60\n3 60\n4 60\n"


@pytest.mark.network
@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
def test_the_api_on_one_screen_runs_as_printed(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(python_block(ROOT / "driver/API.md"), "API.md", "exec"), {})
    assert "up, 10 Gbit/s" in capsys.readouterr().out


def test_the_headers_of_the_api_page_are_read_as_printed(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(python_block(ROOT / "driver/API.md", 1), "API.md", "exec"), {})
    assert capsys.readouterr().out == "0x800 17 0x45\nTrue\n"


def test_the_worker_of_the_api_page_runs_as_printed(tmp_path: Path) -> None:
    program = tmp_path / "worker.py"
    program.write_text(python_block(ROOT / "driver/API.md", 2))
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("done\nTrue\n", "")


def test_the_physical_function_of_the_api_page_runs_as_printed(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(python_block(ROOT / "driver/API.md", 4), "API.md", "exec"), {})
    mac, served = capsys.readouterr().out.splitlines()[0].split()[:2]
    assert (mac, served) == ("02:00:00:00:0a:bc", "True")


def headings(page: Path) -> set[str]:
    """The anchors that a page's headings get."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def dead_links(page: Path) -> list[str]:
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text())
    dead = []
    for link in links:
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in headings(target)):
            dead.append(link)
    return dead


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    assert dead_links(ROOT / page) == []


def test_a_dead_link_and_a_dead_anchor_are_found(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("# One title\n[a](#one-title) [b](#two) [c](gone.md) [d](page.md#one-title)")
    assert dead_links(tmp_path / "page.md") == ["#two", "gone.md"]


def test_programs_and_files_named_in_the_pages_exist() -> None:
    text = "\n".join((ROOT / page).read_text() for page in PAGES)
    programs = set(re.findall(r"python ((?:examples|tests)/[\w/]+\.py)", text))
    assert len(programs) > 5 and [program for program in programs if not (ROOT / program).exists()] == []


def test_every_file_of_the_examples_is_in_a_table() -> None:
    rows = re.findall(r"^\| .*", README.read_text() + (ROOT / "examples/README.md").read_text(), re.MULTILINE)
    named = {Path(link).name for row in rows for link in re.findall(r"\]\(([^)#]+\.py)\)", row)}
    assert {file.name for file in (ROOT / "examples").glob("*.py")} <= named


def sources() -> list[Path]:
    folders = ("driver", "hw", "rings", "examples", "tests", ".github", ".package/ixrings")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*") if not file.is_symlink()]
    return [ROOT / "pyproject.toml", ROOT / "setup.py", README] + [
        file for file in files if file.suffix in (".py", ".c", ".h", ".md")
    ]


def test_files_named_in_texts_exist() -> None:
    """After a move, no text names a file that is gone, such as hw/device.py."""
    pattern = r"(?<![\w/.])(?:driver|hw|rings|examples|tests)/[\w/]+\.(?:py|c|h|md)\b"
    named = {
        (file, name) for file in sources() for name in re.findall(pattern, file.read_text()) if name not in MADE_UP
    }
    assert len(named) > 50
    missing = [
        (file, name) for file, name in named if not any((place / name).exists() for place in (ROOT, ROOT / "tests"))
    ]
    assert sorted((str(file.relative_to(ROOT)), name) for file, name in missing) == []
