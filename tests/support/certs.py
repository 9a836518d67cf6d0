"""Certificates for a test, made by the openssl command: an authority, servers, and clients good and bad.

Ownership: all files are in the directory that the caller gives; the caller removes it.
Units: days.
Errors: subprocess.CalledProcessError, with what openssl said.
Callers: one thread an authority.
"""

import os
import ssl
import subprocess
from typing import NamedTuple


class Pair(NamedTuple):
    """PEM files."""

    cert: str
    key: str


def openssl(*args, text=None):
    """Runs the command; returns what it printed."""
    done = subprocess.run(["openssl", *args], input=text, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {' '.join(args)}: {done.stderr}")
    return done.stdout


class Authority:
    """Issues certificates; `cert` is its own. pair: of an authority that another one made."""

    def __init__(self, directory, name="authority", pair=None):
        self.directory, self.name = directory, name
        self.cert, self.key = pair or (self._path(name, "crt"), self._path(name, "key"))
        if pair:
            return
        openssl("req", "-x509", *self._new_key("ec", self.key), "-out", self.cert, "-subj", f"/CN={name}", "-days", "30")

    def _path(self, name, end):
        return os.path.join(self.directory, f"{name}.{end}")

    def _new_key(self, kind, path):
        form = ["-newkey", "rsa:2048"] if kind == "rsa" else ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        return [*form, "-nodes", "-keyout", path]

    def issue(self, name, subject=None, kind="ec", days=30, extensions="", itself=False):
        """A key and its certificate. days < 0: it has expired. itself: not from this authority but from itself."""
        pair = Pair(self._path(name, "crt"), self._path(name, "key"))
        request, extra = self._path(name, "csr"), self._path(name, "ext")
        openssl("req", *self._new_key(kind, pair.key), "-out", request, "-subj", subject or f"/CN={name}")
        with open(extra, "w", encoding="utf-8") as out:
            out.write(extensions)
        signer = ["-signkey", pair.key] if itself else ["-CA", self.cert, "-CAkey", self.key, "-CAcreateserial"]
        openssl("x509", "-req", "-in", request, *signer, "-out", pair.cert, "-days", str(days), "-extfile", extra)
        os.chmod(pair.key, 0o600)
        return pair

    def issue_server(self, name, kind="ec"):
        return self.issue(name, "/CN=localhost", kind, extensions="subjectAltName=IP:127.0.0.1,DNS:localhost\n")

    def context(self, pair=None):
        """What a client of Python's needs: trusts this authority, shows `pair`."""
        context = ssl.create_default_context(cafile=self.cert)
        if pair:
            context.load_cert_chain(pair.cert, pair.key)
        return context


def serial(der):
    """Of a certificate as getpeercert(True) gives it, or of a file's text."""
    pem = ssl.DER_cert_to_PEM_cert(der) if isinstance(der, bytes) else der
    return openssl("x509", "-noout", "-serial", text=pem).strip()
