"""One call of the demo and what is printed of it."""

import http.client
import json
import os
import sys
import urllib.parse
from pathlib import Path

from demo.processes import ROOT

DATA = Path(os.environ.get("DEMO_DATA", ROOT / ".demo"))
PLAIN, BOLD, DIM = ("\033[0m", "\033[1m", "\033[2m") if sys.stdout.isatty() else ("", "", "")


class Reply:
    """A status, its header fields and its body."""

    def __init__(self, base: str, method: str, path: str, key: str | None = None, body: object = None) -> None:
        address = urllib.parse.urlsplit(base)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
        sent = {"X-API-Key": key} if key else {}
        if body is not None:
            sent["Content-Type"] = "application/json"
        try:
            connection.request(method, path, None if body is None else json.dumps(body), sent)
            reply = connection.getresponse()
            self.status, self.headers, self.text = reply.status, reply.headers, reply.read().decode()
        finally:
            connection.close()

    def detail(self) -> str:
        """The problem's detail, or the body's beginning."""
        try:
            document = json.loads(self.text)
        except ValueError:
            return self.text[:160]
        return str(document.get("detail", self.text[:160])) if isinstance(document, dict) else self.text[:160]


def heading(text: str) -> None:
    print(f"\n{BOLD}== {text}{PLAIN}")
