"""The unit of experiments: a user's pseudonym under an installation secret.

Computed before assignment, so neither logs nor the experiment's tables hold a name.
"""

from __future__ import annotations

import hashlib
import hmac


def pseudonym(secret: bytes, user: str) -> str:
    """HMAC-SHA-256 of the user's name, 32 hexadecimal digits."""
    return hmac.new(secret, user.encode(), hashlib.sha256).hexdigest()[:32]
