"""Listeners and targets: ports that clash, loops, and addresses that hand out a machine's credentials."""

from sidecar.config.network import is_loopback, show_listen
from sidecar.config.reading import Reading
from sidecar.core.addresses import address_of, is_link_local
from sidecar.core.policy import Settings, Snapshot
from sidecar.core.upstreams import Target


def check(snapshot: Snapshot, reading: Reading) -> None:
    settings = snapshot.settings
    listen = (settings.listen_host, settings.listen_port)
    admin = (settings.admin.host, settings.admin.port)
    if listen[1] == admin[1] != 0 and (listen[0] == admin[0] or _is_any(listen[0]) or _is_any(admin[0])):
        message = (
            f"clients and operators cannot share port {admin[1]}: listen is {show_listen(listen)}; write another port"
        )
        written = reading.where(settings, "listen_host") != reading.where(settings)
        if written:
            reading.blame(settings, "listen_host", message)
        else:
            reading.blame(settings.admin, "host", message)
    if settings.proxy_protocol and not settings.trusted_proxies:
        message = "nobody is trusted to speak it; write trusted_proxies, or remove proxy_protocol"
        reading.blame(settings, "proxy_protocol", message)
    for upstream in snapshot.upstreams.values():
        for target in upstream.targets:
            if is_link_local(target.host) and not upstream.allow_link_local:
                message = (
                    f"{target} is a link-local or cloud metadata address, where a machine's credentials are; write the "
                    "API's own address, or allow_link_local: true if it is meant"
                )
                reading.blame(upstream, "targets", message)
            own = _own_listener(target, settings)
            if own:
                reading.blame(upstream, "targets", f"{target} is the sidecar's own {own}: calls would go in a circle")
        if upstream.host is not None and upstream.preserve_host:
            message = "Host cannot be both rewritten and preserved; remove host or preserve_host"
            reading.blame(upstream, "host", message)
        if upstream.tls is not None and not any(target.scheme == "https" for target in upstream.targets):
            reading.blame(upstream, "tls", "no target is spoken to by TLS; write https:// targets or remove tls")
        _check_scheme(upstream.targets, upstream, reading)
    issuers = set()
    for issuer in settings.identity.jwt:
        if issuer.issuer in issuers:
            reading.blame(issuer, "issuer", f'the issuer "{issuer.issuer}" is written twice; write each once')
        issuers.add(issuer.issuer)
    _check_headers(settings, reading)


def _check_scheme(targets: tuple[Target, ...], upstream: object, reading: Reading) -> None:
    for target in targets:
        if (target.scheme, target.port) in {("http", 443), ("https", 80)}:
            other = "https" if target.scheme == "http" else "http"
            reading.blame(
                upstream, "targets", f"{target}: port {target.port} is the one of {other}://; write {other}://"
            )


def _check_headers(settings: Settings, reading: Reading) -> None:
    signed, key = settings.identity.upstream_jwt, settings.identity.api_key
    if signed is not None and signed.header.lower() == key.header.lower():
        reading.blame(signed, "header", f"{signed.header} carries the API key already; write another header")


def _own_listener(target: Target, settings: Settings) -> str:
    for word, host, port in (
        ("listener", settings.listen_host, settings.listen_port),
        ("admin listener", settings.admin.host, settings.admin.port),
    ):
        same = target.host == host or (is_loopback(target.host) and (_is_any(host) or is_loopback(host)))
        if port and target.port == port and same and not target.socket:
            return word
    return ""


def _is_any(host: str) -> bool:
    address = address_of(host)
    return address is not None and address.is_unspecified
