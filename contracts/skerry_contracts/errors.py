"""What can be wrong with a word.

ContractError
 ├── MalformedError     the bytes are no JSON, too long, too deep, or hold a number JSON does not have
 └── MismatchError      the JSON is fine, but not what this record asks for; `path` says where
"""

from __future__ import annotations


class ContractError(ValueError):
    """A message or file that does not keep its contract. `hint` is the reader's next step."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class MalformedError(ContractError):
    """The bytes cannot be read as one JSON document within the limits."""


class MismatchError(ContractError):
    """A value of the wrong type or outside its range. `path` is where, as in `variants[0].blobs.library`."""

    def __init__(self, path: str, message: str, *, hint: str = "") -> None:
        super().__init__(f"{path or 'document'}: {message}", hint=hint)
        self.path = path
