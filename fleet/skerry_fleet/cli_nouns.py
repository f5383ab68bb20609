"""How the command line is put together: a noun, and the verbs it takes."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterator
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """A parser that, of a word or a flag that it does not know, says which one may have been meant."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and what was wrong; end with 2."""
        wrong = re.search(r"invalid choice: '([^']*)'.*choose from (.*)\)", message)
        known = re.findall(r"[\w-]+", wrong[2]) if wrong else list(self._flags(self))
        words = [wrong[1]] if wrong else re.findall(r"--[\w-]+", message.partition("unrecognized arguments:")[2])
        for word in words:
            for near in difflib.get_close_matches(word, known, n=1):
                message += f"; did you mean `{near}`?" if near != word else f"; not here: others take `{word}`"
        super().error(message)

    def _flags(self, parser: argparse.ArgumentParser) -> Iterator[str]:
        for action in parser._actions:
            yield from (each for each in action.option_strings if each.startswith("--"))
            if isinstance(action, argparse._SubParsersAction):
                for each in action.choices.values():
                    yield from self._flags(each)


class Noun:
    """Adds the verbs of one noun."""

    def __init__(
        self,
        nouns: argparse._SubParsersAction[argparse.ArgumentParser],
        name: str,
        text: str,
        common: argparse.ArgumentParser,
    ) -> None:
        self._common = common
        self._verbs = nouns.add_parser(name, help=text).add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(self, name: str, text: str, *words: str) -> argparse.ArgumentParser:
        """Add a verb that takes these words, and return its parser for flags."""
        parser = self._verbs.add_parser(name, help=text, parents=[self._common])
        for word in words:
            parser.add_argument(word.rstrip("+"), nargs="+" if word.endswith("+") else None)
        return parser
