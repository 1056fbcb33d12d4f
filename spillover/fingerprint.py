"""Content identity: canonical JSON in, a short hash out.

Everything spillover stores is found again by what it was made of, never by a path, a name or a
date. Two values that mean the same (key order, tuple or list) have one fingerprint; floats are
written by `repr`, so 2e-5 and 0.00002 agree and 0.1 and 0.1000001 do not.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

KEY_LENGTH = 20  # hex digits, 80 bits: no collision among any grid a person can run


def canonical(value: Any) -> str:
    """`value` as JSON with sorted keys and no white space. Raises TypeError for what JSON cannot hold.

    A number that is not finite is written as Python does: the configurations of some models hold `Infinity`.
    """
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def fingerprint(value: Any) -> str:
    """A hexadecimal digest of `KEY_LENGTH` digits over the canonical form of `value`."""
    return _digest(canonical(value))


def fingerprint_of_list(*items: str) -> str:
    """The fingerprint of a list, from the canonical form of each item: a long one is written once and used often."""
    return _digest(f"[{','.join(items)}]")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:KEY_LENGTH]
