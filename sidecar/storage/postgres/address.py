"""A storage URL, and how to speak of it without its password."""

from dataclasses import dataclass, field, replace
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass(frozen=True, slots=True)
class Address:
    """``url`` as asyncpg takes it. ``str`` names host, port and database, for people."""

    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    name: str

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Never fails: what is wrong with a URL is found when it is used."""
        try:
            parts = urlsplit(url)
            query = parse_qs(parts.query)
            hosts = parts.netloc.rpartition("@")[2] or ",".join(query.get("host", ())) or "localhost"
            name = f"{hosts}{parts.path or '/'}"
            raw = [parts.netloc.rpartition("@")[0].partition(":")[2], *query.get("password", ())]
        except ValueError:
            name, raw = "the configured address", [url]
        found = {form for secret in raw if secret for form in (secret, unquote(secret))}
        address = cls(url, tuple(sorted(found, key=len, reverse=True)), "")
        return replace(address, name=address.without_secrets(name))

    def without_secrets(self, text: str) -> str:
        """``text`` with the password masked, however it got in there."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text

    def __str__(self) -> str:
        return self.name
