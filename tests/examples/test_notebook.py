"""examples/notebook.py as a program, and its cells in IPython from PyPI; completion at IPython's prompt."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.support.packages import package
from tests.support.programs import ENVIRONMENT, EXAMPLES, run_example

IPYTHON = "ipython==8.37.0"
NOTEBOOK = EXAMPLES / "notebook.py"

# What a notebook does: run the cells in one namespace, and ask IPython for each value in all its forms.
KERNEL = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.display_formatter.active_types = ["text/plain", "text/html"]
shown = []
for cell in json.load(sys.stdin):
    done = shell.run_cell(cell, store_history=False)
    done.raise_error()
    shown.append({} if done.result is None else shell.display_formatter.format(done.result)[0])
print()
print(json.dumps(shown))
"""


def cells() -> list[str]:
    """The code of each cell, without those of text."""
    found = re.split(r"^# %%", NOTEBOOK.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [cell.partition("\n")[2] for cell in found if cell.strip() and not cell.startswith(" [markdown]")]


def environment() -> dict[str, str]:
    return {**ENVIRONMENT, "PYTHONPATH": f"{ENVIRONMENT['PYTHONPATH']}:{package(IPYTHON)}", "NO_COLOR": "1"}


@pytest.mark.slow
def test_the_notebook_runs_as_a_program() -> None:
    done = run_example("notebook")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"1\n8 frames of EtherType 0x88b5 with the numbers {list(range(8))}\n"


@pytest.mark.slow
def test_each_cell_shows_what_its_last_line_has() -> None:
    done = subprocess.run(
        [sys.executable, "-c", KERNEL],
        input=json.dumps(cells()),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shown: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    plain, html = ([each.get(form, "") for each in shown] for form in ("text/plain", "text/html"))
    assert plain[0].startswith("<Port emulated:loop, up 10 Gbit/s, 02:82:") and html[0].count("<svg") == 2
    assert "LINK_UP" in html[1] and "8.2.3.22.20" in html[1] and "ENABLE" in html[2]
    assert html[3].count("ff ff ff ff ff ff ff ff ff ff ff ff 88 b5") == 8
    assert "8 released by the program" in html[4] and "8 released" not in html[5] and "8 " in html[6]
    assert "Good Packets Transmitted" in html[7] and "GPTC=8" in plain[7]
    assert plain[8] == "<Port emulated:loop, closed>" and html[8] == ""


@pytest.mark.slow
def test_the_prompt_of_ipython_shows_and_completes() -> None:
    lines = [
        "from ixrings import open_port",
        "port = open_port('emulated:loop', tx_slots=64, rx_slots=64)",
        "port",
        "nic, stats, value = port.nic, port.stats(), port.nic.LINKS.read()",
        "value",
        "from IPython.core.completer import provisionalcompleter",
        "complete = get_ipython().Completer.completions",
        "tab = lambda line: print('TAB', line, [each.text for each in complete(line, len(line))])",
        "keep = provisionalcompleter()",
        "keep.__enter__()",
        "tab('value.LINK_')",
        "tab('value.')",
        "tab('nic.LINK')",
        "tab('stats[\"GP')",
        "tab('port.nic.LIN')",
        "nic.EICR",
        "port.close()",
        "nic.LINKS",
        "port",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--simple-prompt", "--no-banner", "--colors=NoColor", "--no-confirm-exit",
         "--HistoryManager.enabled=False"],
        input="\n".join(lines) + "\n",
        env={**environment(), "IPYTHONDIR": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    printed = done.stdout
    assert re.search(r"Out\[3\]: <Port emulated:loop, up 10 Gbit/s, 02:82:59:90:00:01, 1 TX 1 RX ring>", printed), (
        printed
    )
    assert re.search(r"Out\[5\]: 0x[0-9a-f]{8} .*SPEED=3 \(10 Gbit/s\)", printed), printed
    tabs = dict(re.findall(r"TAB (\S+) (\[.*\])", printed))
    assert "LINK_UP" in tabs["value.LINK_"] and "bit_length" not in tabs["value."] and "SPEED" in tabs["value."]
    assert "LINKS" in tabs["nic.LINK"] and "GPRC" in tabs['stats["GP'] and "LINKS" in tabs["port.nic.LIN"]
    assert "a read has an effect" in printed and "LINKS (Link Status) at 0x042a4: " in printed
    assert "<Port emulated:loop, closed>" in printed and "Traceback" not in printed
