"""The public surface is a list somebody chose, and errors form the tree they are drawn as."""

import inspect
import re
import types

import cas
from cas import errors


def test_the_package_exports_what_it_says():
    public = {
        name
        for name, value in vars(cas).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType) and name != "annotations"
    }
    assert public | {"__version__"} == set(cas.__all__)


def test_every_error_is_in_the_drawn_tree_and_at_its_place():
    drawn = re.findall(r"^    ([ │├└─]*)(\w+)(?: \((\w+)\))?", errors.__doc__ or "", flags=re.MULTILINE)
    parents: list[str] = []
    found = {}
    for indent, name, mixin in drawn:
        depth = len(indent) // 4
        parents[depth:] = [name]
        found[name] = (parents[depth - 1] if depth else "Exception", mixin)
    classes = {name: value for name, value in vars(errors).items() if inspect.isclass(value)}
    actual = {
        name: (value.__bases__[0].__name__, value.__bases__[1].__name__ if len(value.__bases__) > 1 else "")
        for name, value in classes.items()
    }
    assert found == actual


def test_every_error_says_in_a_sentence_when_it_is_raised():
    for name, value in vars(errors).items():
        if inspect.isclass(value):
            assert value.__doc__, name
            assert value.__doc__.strip().endswith("."), name
