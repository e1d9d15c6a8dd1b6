"""driver/README.md lists every file of the folder, and every contract that other files cite."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TEXT = (ROOT / "driver" / "README.md").read_text()


def test_every_file_of_the_folder_has_a_row() -> None:
    files = {file.name for file in (ROOT / "driver").glob("*.py")} - {"__init__.py"}
    assert files - set(re.findall(r"\]\((\w+\.py)\)", TEXT)) == set()


def test_contracts_that_are_cited_exist() -> None:
    contracts = {int(number) for number in re.findall(r"^(\d+)\. \*\*", TEXT, re.MULTILINE)}
    assert contracts == set(range(1, 11))
    cited = {
        int(number)
        for folder in ("driver", "hw", "rings", "examples", "tests")
        for file in (ROOT / folder).rglob("*")
        if file.suffix in (".py", ".c", ".h", ".md")
        for number in re.findall(r"driver/README\.md, contract (\d+)", file.read_text(encoding="utf-8"))
    }
    assert cited <= contracts
