"""How the command line is put together: a noun, and the verbs it takes."""

from __future__ import annotations

import argparse


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
