"""benchmarks/mutants.py: the changes that it makes, and that it sees which of them are noticed."""

import ast

import pytest

from benchmarks import mutants
from ladder.rungs import ROOT


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a = (b) + (c)", ["a = (b) - (c)"]),
        ("a = b < c <= d", ["a = b <= c <= d", "a = b < c < d"]),
        ("a = b and c or d", ["a = b and c and d", "a = b or c or d"]),
        ("a = max(b)", ["a = min(b)"]),
        ("a = not b", ["a = b"]),
        ("a = [3, 0.5, -b, True]", ["a = [4, 0.5, -b, True]", "a = [3, 1.5, -b, True]",
                                    "a = [3, 0.5, b, True]", "a = [3, 0.5, -b, False]"]),
        ("def a() -> 3:\n '3'\n return b", ["def a() -> 3:\n '3'\n return None"]),
        ("a += b", ["a -= b", "pass"]),
        ("a.b = c", ["pass"]),
        ("a(f'{3}')", ["pass"]),
        ("a = b if c else d", ["a = b if not (c) else d"]),
        ("a = 'é' + 'ü'", ["a = 'é' - 'ü'"]),
    ],
)  # fmt: skip
def test_each_mutant_has_one_change(before, after):
    found = list(mutants.mutants("module.py", before.encode()))
    assert {mutant.text.decode() for mutant in found} == set(after)
    for mutant in found:
        ast.parse(mutant.text)
        assert mutant.diff.count("\n") == 1
        assert (
            mutant.line == before.count("\n", 0, before.index(mutant.diff[1:].split("\n")[0])) + 1
        )


def test_every_module_and_its_tests_exist():
    for module in mutants.TESTS:
        assert all((ROOT / path).is_file() for path in (module, *mutants.paths(module)))
    assert len(mutants.TESTS) == sum(map(len, mutants.GROUPS.values()))


def test_a_mutant_that_tests_notice_is_told_from_one_that_they_do_not(tmp_path, monkeypatch):
    """In a tree of its own; what was found stays as long as module and tests do."""
    (tmp_path / "module.py").write_text("def twice(a):\n    return a * 2 + 0\n")
    (tmp_path / "tests").mkdir()
    test = tmp_path / "tests" / "test_module.py"
    test.write_text("from module import twice\n\ndef test_it():\n    assert twice(3) == 6\n")
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    monkeypatch.setattr(mutants, "FOUND", tmp_path / "found" / "mutants.jsonl")
    monkeypatch.setattr(mutants, "IMPORTED", ("pytest",))
    monkeypatch.setattr(mutants, "TESTS", {"module.py": ["module"]})
    monkeypatch.setattr(mutants, "copied", lambda: ["module.py", "tests/test_module.py"])
    every = list(mutants.mutants("module.py", (tmp_path / "module.py").read_bytes()))
    lines = "    return a * 2 - 0", "    return a / 2 + 0"
    chosen = [one for line in lines for one in every if one.diff.endswith(line)]
    mutants.search(chosen)
    noticed = [mutants.known()[one.key]["noticed"] for one in chosen]
    assert noticed == ["", "FAILED tests/test_module.py::test_it"]
    assert mutants.unknown(chosen) == []
    test.write_text(test.read_text() + "    assert twice(0) == 0\n")
    assert mutants.unknown(chosen) == chosen[:1]
