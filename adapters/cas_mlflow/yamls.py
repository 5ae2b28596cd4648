"""YAML that somebody else wrote, such as an MLmodel: read as plain data, within bounds.

A few lines of YAML can stand for more than any memory holds: aliases of aliases, and merges of merges.
"""

from __future__ import annotations

from typing import Any

import yaml

from cas.errors import MalformedRecord
from cas.records import reading

_MAX_SIZE = 1 << 20  # characters or bytes; MLflow's are of a few KB
_MAX_NODES = 50_000  # of the document with every alias written out
_MAX_NUMBER = 100  # digits; one of base 60 takes time by their square


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # yaml is untyped
    """Gives up as soon as there are too many nodes: each takes a kilobyte."""

    nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.nodes += 1
        if self.nodes > _MAX_NODES:
            raise yaml.YAMLError("too many nodes")
        return super().compose_node(parent, index)


def load(text: str | bytes) -> Any:
    """The document, or None if ``text`` is no YAML, or none that anybody would write in earnest."""
    if len(text) > _MAX_SIZE:
        return None
    try:
        with reading("YAML"):
            loader = _Loader(text)
            node = loader.get_single_node()
            if node is None or _nodes(node, {}) > _MAX_NODES:
                return None
            return loader.construct_document(node)
    except (MalformedRecord, yaml.YAMLError):
        return None


def dump(document: Any) -> str:
    """As MLflow writes its own."""
    with reading("YAML"):
        text: str = yaml.safe_dump(document, default_flow_style=False)
        return text


def _nodes(node: yaml.Node, known: dict[int, int]) -> int:
    """How many nodes there are, with every alias written out."""
    if id(node) not in known:
        known[id(node)] = _MAX_NODES + 1  # for those inside itself: there is no end to them
        if isinstance(node, yaml.ScalarNode):
            is_text = node.tag == "tag:yaml.org,2002:str"
            known[id(node)] = 1 if is_text or len(node.value) <= _MAX_NUMBER else _MAX_NODES + 1
        elif isinstance(node, yaml.MappingNode):
            known[id(node)] = 1 + sum(_nodes(each, known) for pair in node.value for each in pair)
        else:
            known[id(node)] = 1 + sum(_nodes(each, known) for each in node.value)
    return known[id(node)]
