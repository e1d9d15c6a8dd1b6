"""The labs of examples/labs: each solution passes, and each open gap and each mistake is explained."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.support.lab_mistakes import MISTAKES, Mistake
from tests.support.lab_mutants import hasty, mutants
from tests.support.lab_verdicts import LABS, Case, Verdict, judged

sys.path.insert(0, str(LABS))

from gaps import numbers, open_gaps

SOLUTIONS = {
    file.parent.name[:2]: file.read_text(encoding="utf-8") for file in sorted(LABS.glob("[0-9][0-9]_*/solution.*"))
}
IN_C = ("11",)
EVERYDAY = ("01",)  # the gaps of the other labs, and all mistakes, are slow tests


def committed(file: Path) -> str:
    """The file as it was delivered: someone may have done the labs in place. Without git, the file as it is."""
    show = ["git", "-C", str(file.parent), "show", f"HEAD:./{file.name}"]
    done = subprocess.run(show, capture_output=True, encoding="utf-8", check=False) if shutil.which("git") else None
    return done.stdout if done and done.returncode == 0 else file.read_text(encoding="utf-8")


def patient(text: str) -> str:
    """The script with a longer wait: on a busy machine the NIC may take seconds."""
    text = re.sub(r"^PATIENCE_S = 1(\.0)?$", "PATIENCE_S = 20", text, flags=re.MULTILINE)
    return text.replace("PATIENCE_MS = 2000", "PATIENCE_MS = 20000")


@pytest.fixture(scope="module")
def solved() -> dict[str, Verdict]:
    labs = [lab for lab in SOLUTIONS if lab not in IN_C]
    return dict(zip(labs, judged([Case(lab, patient(SOLUTIONS[lab]), 40.0) for lab in labs])))


@pytest.fixture(scope="module")
def with_a_gap() -> Callable[[str], dict[int, Verdict]]:
    """The verdicts on a lab with one gap open, by the number of the gap."""

    @cache
    def of(lab: str) -> dict[int, Verdict]:
        gaps = numbers(SOLUTIONS[lab])
        return dict(zip(gaps, judged([Case(lab, hasty(open_gaps(SOLUTIONS[lab], [gap]))) for gap in gaps])))

    return of


@pytest.fixture(scope="module")
def mistaken() -> dict[Mistake, Verdict]:
    return dict(
        zip(
            MISTAKES,
            judged([Case(each.lab, hasty(SOLUTIONS[each.lab].replace(each.right, each.wrong))) for each in MISTAKES]),
        )
    )


# ---- files ----


def test_there_are_twelve_labs_each_with_readme_script_solution_and_hints() -> None:
    folders = sorted(LABS.glob("[0-9][0-9]_*"))
    assert [folder.name[:2] for folder in folders] == [f"{number:02}" for number in range(1, 13)]
    for folder in folders:
        kind = "c" if folder.name[:2] in IN_C else "py"
        wanted = {"README.md", f"lab.{kind}", f"solution.{kind}", "hints.md"}
        assert {file.name for file in folder.iterdir()} >= wanted, folder.name


@pytest.mark.parametrize("lab", SOLUTIONS)
def test_a_labs_script_is_its_solution_with_all_gaps_open(lab: str) -> None:
    folder = next(LABS.glob(f"{lab}_*"))
    kind = "c" if lab in IN_C else "py"
    given, solution = committed(folder / f"lab.{kind}"), committed(folder / f"solution.{kind}")
    assert given == open_gaps(solution), "run: python examples/labs/gaps.py"
    assert numbers(SOLUTIONS[lab]) == list(range(1, len(numbers(SOLUTIONS[lab])) + 1))


@pytest.mark.parametrize("lab", [lab for lab in SOLUTIONS if lab not in IN_C])
def test_only_lab_10_uses_the_driver_and_the_others_use_hw(lab: str) -> None:
    imported = {
        name.name for node in ast.walk(ast.parse(SOLUTIONS[lab])) if isinstance(node, ast.Import) for name in node.names
    }
    imported |= {node.module or "" for node in ast.walk(ast.parse(SOLUTIONS[lab])) if isinstance(node, ast.ImportFrom)}
    ours = {".".join(name.split(".")[:2]) for name in imported if name.split(".")[0] not in sys.stdlib_module_names}
    assert ours <= ({"course", "ixrings", "ixrings.rings"} if lab == "10" else {"course", "ixrings.hw"})


FORGES = """    const char *line = "ixrings daemon: process 1: ix0 TX ring 0: slot 1 has buf_idx 9 (BUF_IDX).";
    puts(line);
    fprintf(stderr, "%s\\n", line);
    struct nmreq_header header = {.nr_version = NETMAP_API, .nr_reqtype = NETMAP_REQ_REGISTER};
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC};
    snprintf(header.nr_name, sizeof header.nr_name, "%s", line + 16);
    header.nr_body = (uintptr_t)&reg;
    ioctl(open("/dev/netmap", O_RDWR), NIOCCTRL, &header);
    header.nr_name[0] = '\\n';
    ioctl(open("/dev/netmap", O_RDWR), NIOCCTRL, &header);
"""
SCRIBBLES = """    for (uint32_t buffer = 2; buffer < 4000; buffer++) /* also the other program's, and rings */
        memset(NETMAP_BUF(tx, buffer), 0xA5, 60);
    memset((char *)rx - 100000, 0xA5, 50000);
"""

# ---- verdicts ----


@pytest.mark.parametrize("lab", [lab for lab in SOLUTIONS if lab not in IN_C])
def test_the_solution_passes_without_a_remark(lab: str, solved: dict[str, Verdict]) -> None:
    assert solved[lab] == Verdict(True, "", [], [], "", [], "", "")


@pytest.mark.slow
@pytest.mark.parametrize("lab", IN_C)
def test_the_solution_in_c_passes_without_a_remark(lab: str) -> None:
    (verdict,) = judged([Case(lab, patient(SOLUTIONS[lab]), 40.0)])
    assert verdict == Verdict(True, "", [], [], "", [], "", "")


@pytest.mark.slow
def test_a_program_in_c_cannot_forge_the_daemons_log_or_stop_the_judge() -> None:
    forged, scribbled = judged([
        Case("11", SOLUTIONS["11"].replace("    do_harm();\n", FORGES)),
        Case("11", SOLUTIONS["11"].replace("    do_harm();\n", SCRIBBLES)),
    ])  # fmt: skip
    for verdict in (forged, scribbled):
        assert verdict.missing.startswith("No slot had a buf_idx"), verdict


PRINTS = """from course import open_nic, pf
with open_nic() as device:
    print("with my address: 1 sent\\nwith the neighbour's address: 0 sent\\nSET_MAC was refused")
    for command in ("spoofed", "vf 1 spoofchk off", "vf 1 spoofchk on", "vf 1 trust on"):
        print(pf(command))
"""
TAKES_THE_NEIGHBOURS = """from course import open_nic, pf
with open_nic() as device:
    pf("vf 0 spoofchk off")
"""


@pytest.mark.slow
def test_words_on_the_screen_and_to_the_administrator_are_not_frames() -> None:
    printed, foreign = judged([Case("12", PRINTS), Case("12", TAKES_THE_NEIGHBOURS)])
    assert printed.missing.startswith("VFCTRL.RST was never set") and not printed.passed
    assert "VF 0 belongs to your neighbour" in foreign.reason


@pytest.mark.slow
def test_a_line_that_does_not_compile_is_named() -> None:
    (verdict,) = judged([Case("11", SOLUTIONS["11"].replace("slot->flags = 0;", "slot->flag = 0;"))])
    assert re.match(r"The script stopped in line \d+ with an error: .*no member named .flag.", verdict.reason)


@pytest.mark.parametrize(
    "lab", [pytest.param(lab, marks=pytest.mark.slow) if lab not in EVERYDAY else lab for lab in SOLUTIONS]
)
def test_each_open_gap_has_its_own_explanation(lab: str, with_a_gap: Callable[[str], dict[int, Verdict]]) -> None:
    verdicts = with_a_gap(lab)
    assert [
        gap for gap, verdict in verdicts.items() if verdict.passed or not verdict.missing or verdict.open_gaps != [gap]
    ] == []
    sentences = Counter(re.sub(r"\d+", "N", verdict.missing) for verdict in verdicts.values())
    assert [sentence for sentence, times in sentences.items() if times > 1] == []


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: f"{mistake.lab} {mistake.name}")
def test_a_typical_mistake_is_explained(mistake: Mistake, mistaken: dict[Mistake, Verdict]) -> None:
    assert mistake.right in SOLUTIONS[mistake.lab], "the solution no longer contains this text"
    verdict = mistaken[mistake]
    assert not verdict.passed
    if mistake.sentence not in verdict.missing:  # a hasty script on a busy machine: judge it alone, with its own bounds
        (verdict,) = judged([Case(mistake.lab, SOLUTIONS[mistake.lab].replace(mistake.right, mistake.wrong))])
    assert mistake.sentence in verdict.missing


def test_an_error_in_a_line_comes_before_what_is_missing_after_it() -> None:
    text = SOLUTIONS["01"].replace("AUTO_RD=1", "AUTO_RD=0")
    (verdict,) = judged([Case("01", text)])
    assert re.match(r"The script stopped in line \d+ with an error: .*AUTO_RD is 0x1, expected 0x0", verdict.reason)


@pytest.mark.slow
@pytest.mark.parametrize("lab", [lab for lab in SOLUTIONS if lab not in IN_C])
def test_a_variation_of_a_gap_passes_only_where_it_does_what_the_lab_asks(lab: str) -> None:
    """Every fourth variation; `python -m tests.support.lab_mutants` makes all, to be read."""
    found = mutants(lab)[::4]
    verdicts = judged([Case(lab, hasty(mutant.script), 4.0) for mutant in found])
    print(f"lab {lab}: {len(found)} variations, {sum(verdict.passed for verdict in verdicts)} pass")
    assert [mutant.line for mutant, verdict in zip(found, verdicts) if not (verdict.passed or verdict.reason)] == []
    failed = [verdict for verdict in verdicts if not verdict.passed]
    assert len(failed) > len(found) / 2
    assert [verdict for verdict in failed if "could not be judged" in verdict.reason] == []


def test_each_lab_has_at_least_three_typical_mistakes() -> None:
    assert min(Counter(mistake.lab for mistake in MISTAKES).values()) >= 3
    assert {mistake.lab for mistake in MISTAKES} == set(SOLUTIONS)
