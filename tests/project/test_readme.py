"""What README.md shows is what happens: its Python block runs as printed, what it points to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.namespaces import unique, why_not

ROOT = Path(__file__).resolve().parent.parent.parent
TEXT = (ROOT / "README.md").read_text()
WHY_NOT = why_not()


@pytest.mark.network
@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
def test_the_python_block_runs_as_printed(capsys: pytest.CaptureFixture[str]) -> None:
    block = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert block
    program = block.group(1)
    for name in ("ix0", "left", "right"):  # TAPs of its own
        program = program.replace(f"tap={name}", f"tap={unique(name)}")
    exec(compile(program, "README.md", "exec"), {})
    assert "up, 10 Gbit/s" in capsys.readouterr().out


@pytest.mark.parametrize(
    "page", sorted(page.relative_to(ROOT) for page in ROOT.glob("[!.]*/**/README.md")) + [Path("README.md")], ids=str
)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text())
    assert [link for link in links if not (ROOT / page.parent / link).exists()] == []


def test_programs_in_code_blocks_exist() -> None:
    programs = re.findall(r"python ((?:examples|tests)/[\w/]+\.py)", TEXT)
    assert programs and [program for program in programs if not (ROOT / program).exists()] == []
