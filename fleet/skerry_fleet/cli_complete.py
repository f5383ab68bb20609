"""`skerry fleet completion`: what a shell needs to complete nouns, verbs and flags, made from the parser itself."""

from __future__ import annotations

import argparse

_SHELL = """\
# skerry fleet: completion for bash, and for zsh after `autoload -U bashcompinit && bashcompinit`.
# Use it by `source <(skerry fleet completion)`.
_skerry_fleet() {{
    [ "${{COMP_WORDS[1]}}" = fleet ] || return 0
    local words="" at="${{COMP_WORDS[2]}}"
    [ "$COMP_CWORD" -gt 3 ] && at="$at ${{COMP_WORDS[3]}}"
    [ "$COMP_CWORD" -eq 2 ] && at=""
    case "$at" in
{cases}
    esac
    COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _skerry_fleet skerry
"""


def script(parser: argparse.ArgumentParser) -> str:
    """Return the shell's words."""
    cases = []
    for at, words in _words(parser, ""):
        pattern = f'"{at}"' if at.count(" ") or not at else f'"{at}"|"{at} "*'
        cases.append(f'        {pattern}) words="{" ".join(words)}" ;;')
    cases.sort(key=lambda line: line.split(")")[0].count("*"))  # a noun with its verb before the noun alone
    return _SHELL.format(cases="\n".join(cases))


def _words(parser: argparse.ArgumentParser, at: str) -> list[tuple[str, list[str]]]:
    """Return what may follow at each place: words that were given already, and words and flags that may come."""
    found: list[str] = []
    deeper: list[tuple[str, list[str]]] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += list(action.choices)
            for word, each in action.choices.items():
                deeper += _words(each, f"{at} {word}".strip())
        else:
            found += [flag for flag in action.option_strings if flag.startswith("--")]
    return [(at, found), *deeper]
