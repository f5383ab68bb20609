"""Passwords of people: which may be one, and how one is kept.

Kept by Argon2id (RFC 9106) with OWASP's parameters (Password Storage Cheat Sheet: 19 MiB, two passes, one lane);
refused by NIST SP 800-63B-4, 3.1.1.2: at least 15 characters where nothing else is asked for, no rule of composition,
nothing that is guessed first.
"""

from __future__ import annotations

import functools
import itertools
import re
import threading
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from skerry_fleet.errors import InputError

SHORTEST, LONGEST = 15, 256
HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
AT_ONCE = threading.BoundedSemaphore(2)
"""Each costs 19 MiB and a core for a while: a storm of sign-ins waits here."""
FEWEST_LETTERS = 5
_ROUNDS = re.compile(r"(.{1,8}?)\1+.{0,7}")
_COMMON = re.compile(
    r"passw[o0]rd|passphrase|qwert[yz]|asdfgh|letmein|welcome|iloveyou|admin|root|secret|changeme|login|master"
    r"|dragon|monkey|football|baseball|skerry|fleet|abc|0?123(4(5(6(7(8(9(0)?)?)?)?)?)?)?|[0-9]{4}"
)


def prepared(password: str) -> bytes:
    """Return a password as it is hashed: the same however a keyboard writes it (NFKC)."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")


def check(password: str, name: str = "") -> None:
    """Refuse what is no good password.

    Raises:
        InputError: too short or too long, or among the first that are guessed.
    """
    letters = unicodedata.normalize("NFKC", password)
    if len(letters) < SHORTEST:
        raise InputError(f"a password has at least {SHORTEST} characters", hint="a few words that nobody would guess")
    if len(letters) > LONGEST or "\0" in letters:
        raise InputError(f"a password has at most {LONGEST} characters, and no NUL")
    folded = letters.casefold()
    steps = {ord(after) - ord(before) for before, after in itertools.pairwise(folded)}
    common = _COMMON.sub("", folded.replace(name.casefold(), "") if name else folded)
    if (
        len(set(folded)) < FEWEST_LETTERS
        or steps in ({1}, {-1})
        or _ROUNDS.fullmatch(folded)
        or len(common) < SHORTEST // 3
    ):
        raise InputError("this password would be among the first guesses", hint="a few words that nobody would guess")


def hashed(password: str) -> str:
    """Return what is kept of a password."""
    with AT_ONCE:
        return HASHER.hash(prepared(password))


def fits(kept: str, password: str) -> bool:
    """Say whether this is the password; where none is kept (empty), after just as long a time that it is not."""
    try:
        with AT_ONCE:
            return HASHER.verify(kept or _nobodys(), prepared(password[: 4 * LONGEST])) and bool(kept)
    except (VerificationError, InvalidHashError):
        return False


def outdated(kept: str) -> bool:
    """Say whether a kept password has other parameters than those of today."""
    return HASHER.check_needs_rehash(kept)


@functools.cache
def _nobodys() -> str:
    return HASHER.hash(b"the password of nobody")
