"""Runs pytest, and once more what has failed: `python .ci/twice.py [--files] ARGUMENTS OF PYTEST`.

For tests that depend on time: a machine that stands still for a moment does not refuse a change. At most three tests
may fail; they pass when the second try passes. Each line "FLAKY: ..." names a defect of a test or of the code.
--files: the second try runs the whole files of the failed tests. All tests of one file may fail, as they do when their
guest does not start.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

MOST = 3
TESTS_FAILED = 1  # pytest's exit status


def pytest(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *arguments]).returncode


def failed_in(cache: str) -> list[str]:
    """The tests that failed, by what pytest's cache keeps for --last-failed."""
    file = Path(cache) / "v/cache/lastfailed"
    return sorted(json.loads(file.read_text())) if file.exists() else []


def main(arguments: list[str]) -> int:
    whole_files = arguments[:1] == ["--files"]
    arguments = arguments[whole_files:]
    with tempfile.TemporaryDirectory() as cache:
        caching = ["-o", f"cache_dir={cache}"]
        status = pytest(*caching, *arguments)
        failed = failed_in(cache)
        files = sorted({name.partition("::")[0] for name in failed})
        if status != TESTS_FAILED or not (0 < len(failed) <= MOST or (whole_files and len(files) == 1)):
            return status
        print("\nA second try of:", *failed, sep="\n  ", flush=True)
        if whole_files:
            status = pytest(*(each for each in arguments if not Path(each).exists()), *files)
        else:
            status = pytest(*caching, "--last-failed", *arguments)
    if status == 0:
        print(*(f"FLAKY: {name} passed only the second time" for name in failed), sep="\n", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
