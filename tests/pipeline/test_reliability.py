"""docs/reliability.md lists every test of a fault, and no other."""

import re
import subprocess
import sys

import pytest
from helpers.root import ROOT

pytestmark = pytest.mark.slow

ROW = re.compile(r"\| .+ \| .+ \| (\d+) \| (.+) \|")
FILE = re.compile(r"`(tests/[\w/]+\.py)`: ((?:`[\w:]+`(?:, )?)+)")


def test_matrix() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "--collect-only", "-p", "no:cacheprovider", "-m", "faults"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    cases = {line.strip() for line in listed.splitlines() if "::" in line}
    text = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    named: set[str] = set()
    for row in (match for line in text.splitlines() if (match := ROW.fullmatch(line))):
        tests = [f"{file}::{name}" for file, names in FILE.findall(row[2]) for name in re.findall(r"`([\w:]+)`", names)]
        found = {case for case in cases for test in tests if case == test or case.startswith((f"{test}[", f"{test}::"))}
        assert len(found) == int(row[1]), row[0]
        named |= found
    assert named == cases
    assert f"\n{len(cases)} cases.\n" in text
