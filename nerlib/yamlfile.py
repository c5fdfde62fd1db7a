"""YAML files, read strictly: a mapping that says each thing once, in plain values; mistakes are told with file and line."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError


class _Strict(yaml.SafeLoader):
    """Safe YAML without names that stand twice, of which the last would win, and without aliases: a few lines of those can
    stand for more than a memory holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise ConstructorError(None, None, "an alias (*name) is not allowed; write out what it stands for",
                                   self.peek_event().start_mark)
        return super().compose_node(parent, index)

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, AttributeError, TypeError, IndexError) as error:  # a date that is none, !!bool maybe
            raise ConstructorError(None, None, f"{str(node.value)[:50]} cannot be read: {error}", node.start_mark) from None

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.tag == "tag:yaml.org,2002:merge":
                raise ConstructorError(None, None, "a merge key (<<) is not allowed; write the values out", key.start_mark)
            name = self.construct_object(key, deep=True)
            if isinstance(name, Hashable) and name in lines:
                raise ConstructorError(None, None, f"{key.value} stands here and in line {lines[name]}", key.start_mark)
            lines |= {name: line} if isinstance(name, Hashable) else {}
        return super().construct_mapping(node, deep)


def mapping(path: Path) -> dict[Any, Any]:
    """The names and values in a YAML file. Raises ValueError with file, line and reason, FileNotFoundError."""
    try:
        loader = _Strict(path.read_text("utf-8"))
        try:
            content = loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        said = " ".join(filter(None, [error.context, error.problem]))
        raise ValueError(f"{path}: line {error.problem_mark.line + 1}: {said}") from None
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a YAML file in UTF-8: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ValueError(f"{path}: not a file of parameters: brackets within brackets, too deep to read") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: not a mapping of names to values; write one 'name: value' a line")
    return content
