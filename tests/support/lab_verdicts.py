"""Gets the checker's verdicts on lab scripts. The checker forks, so each checker is a separate process: this file, run
as a program."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
LABS = ROOT / "examples" / "labs"
WORKERS = 2
LIMIT_S = 8.0


@dataclass(frozen=True)
class Verdict:
    """The fields of judge/explain.py's Verdict, and its reason."""

    passed: bool
    missing: str
    complaints: list[str]
    remarks: list[str]
    ending: str
    open_gaps: list[int]
    note: str
    reason: str


@dataclass(frozen=True)
class Case:
    lab: str
    script: str
    limit_s: float = LIMIT_S
    challenge: bool = False


def judged(cases: Sequence[Case]) -> list[Verdict]:
    """The verdicts, in order. Each of WORKERS checkers runs its cases one after the other, so damage by one script
    shows in the next."""
    workers = [
        subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(WORKERS)
    ]
    for i, worker in enumerate(workers):
        assert worker.stdin is not None
        with worker.stdin as questions:
            json.dump([dataclasses.astuple(case) for case in cases[i::WORKERS]], questions)
        worker.stdin = None
    answers = [json.loads(worker.communicate(timeout=110 + 2 * len(cases))[0]) for worker in workers]
    return [Verdict(**answers[i % WORKERS][i // WORKERS]) for i in range(len(cases))]


def main() -> None:
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    sys.path[:0] = [str(ROOT / ".package"), str(LABS)]
    from judge.apart import judged as judged_apart
    from judge.challenges import CHALLENGES
    from judge.labs import LABS as BY_NUMBER

    verdicts = []
    for number, script, limit_s, challenge in json.load(sys.stdin):
        lab = (CHALLENGES if challenge else BY_NUMBER)[number]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / lab.file
            file.write_text(script, encoding="utf-8")
            verdict = judged_apart(lab, file, limit_s=limit_s).verdict
            verdicts.append({**dataclasses.asdict(verdict), "reason": verdict.reason})
    json.dump(verdicts, sys.stdout)


if __name__ == "__main__":
    main()
