"""A file of tokens, as `ciphermqctl token` writes it (common/auth/cmq_auth.h).

Ownership: the directory is the caller's; the file goes with it.
Units: milliseconds since 1970.
Errors: OSError.
Callers: one thread a file.
"""

import base64
import hashlib
import os
import time


def make_token():
    return "cmq_" + base64.urlsafe_b64encode(os.urandom(32)).decode("ascii").rstrip("=")


class TokenFile:
    """Every change is written at once: aside, and renamed."""

    def __init__(self, directory):
        os.chmod(directory, 0o700)
        self.path = os.path.join(directory, "tokens")
        self._lines = {}
        self.write()

    def write(self, text=None):
        new = self.path + ".new"
        with open(new, "w", encoding="ascii") as out:
            out.write("".join(self._lines.values()) if text is None else text)
        os.chmod(new, 0o640)
        os.rename(new, self.path)

    def add(self, name, token=None, expires_ms=None, admin=False, **rights):
        """rights: publish="a,b", subscribe=..., consume=... Returns the token."""
        token = token or make_token()
        digest = hashlib.sha256(token.encode("ascii")).hexdigest()
        fields = [f"token {name} sha256:{digest} created:{int(time.time() * 1000)} "
                  f"expires:{'never' if expires_ms is None else expires_ms}"]
        fields += [f"{right}:{patterns}" for right, patterns in rights.items()]
        self._lines[name] = " ".join(fields + (["admin"] if admin else [])) + "\n"
        self.write()
        return token

    def revoke(self, name):
        del self._lines[name]
        self.write()
