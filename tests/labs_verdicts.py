"""Judges scripts of the labs: a JSON list of [lab, text] in, a list of verdicts out. A process of its own: the checker forks."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "examples" / "labs")]

from judge.explain import judge  # type: ignore[import-not-found,unused-ignore]
from judge.labs import LABS  # type: ignore[import-not-found,unused-ignore]
from judge.trial import try_script  # type: ignore[import-not-found,unused-ignore]

LIMIT_S = 8.0

if __name__ == "__main__":
    verdicts = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "lab.py"
        for number, text in json.load(sys.stdin):
            file.write_text(text, encoding="utf-8")
            verdicts.append(dataclasses.asdict(judge(LABS[number], try_script(LABS[number], file, limit_s=LIMIT_S), text)))
    json.dump(verdicts, sys.stdout)
