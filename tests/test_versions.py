"""Versions of PyTorch: which are supported, and where its private names are touched."""

import ast

import pytest

from ladder.rungs import ROOT
from vramcast import compat

MODULES = sorted(path for path in (ROOT / "vramcast").rglob("*.py") if path.name != "compat.py")
ALLOWED = {"_pytree", "_python_dispatch"}  # the same in all versions, says compat.py


@pytest.mark.parametrize("version", ["2.9.0", "2.11.0", "2.14.1+cu130", "2.15.0"])
def test_a_version_that_was_tried_needs_no_words(version):
    assert compat.check(version) is None


@pytest.mark.parametrize("version", ["2.8.0", "1.13.1+cu117"])
def test_an_older_version_is_refused_in_a_sentence(version):
    with pytest.raises(compat.Unsupported, match=rf"{version[:3]}.* oldest .* is 2\.9 .*2\.15"):
        compat.check(version)


@pytest.mark.parametrize("version", ["2.16.0", "3.0.0a0+git123", "2.12.0"])
def test_a_version_that_was_not_tried_says_so(version):
    note = compat.check(version)
    assert version in note
    assert "2.9, 2.11, 2.14, 2.15" in note


def test_a_missing_private_name_is_a_sentence():
    with pytest.raises(compat.Unsupported, match=r"this PyTorch \(.*\) has no torch\._C\._nothing"):
        compat.private("torch._C:_nothing", "torch._no_module:nothing")
    with pytest.raises(compat.Unsupported, match="nothing"):
        compat.wrap("torch.autograd:nothing", lambda function: function)


def test_a_renamed_private_name_is_found():
    assert compat.private("torch._C:_nothing", "torch:Tensor") is compat.torch.Tensor


def private_modules(tree: ast.Module) -> set[str]:
    """What a module imports from private modules of PyTorch, or names as `torch._…`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "torch":
            parts = [*node.module.split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            parts = [
                part
                for alias in node.names
                if alias.name.split(".")[0] == "torch"
                for part in alias.name.split(".")
            ]
        elif isinstance(node, ast.Attribute) and ast.unparse(node).startswith("torch._"):
            parts = ast.unparse(node).split(".")[:2]
        else:
            continue
        found |= {
            part for part in parts if part[0] == "_" and not part.startswith(("__", "_foreach"))
        }
    return found - ALLOWED


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_compat_touches_private_modules(path):
    assert private_modules(ast.parse(path.read_text())) == set()
