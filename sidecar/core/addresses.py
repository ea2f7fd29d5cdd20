"""Which addresses stand for a machine's own network and its credentials."""

import ipaddress

# Addresses that answer with a machine's credentials and are not link-local: AWS over IPv6, Alibaba, Azure.
_METADATA = frozenset({"fd00:ec2::254", "100.100.100.200", "168.63.129.16"})
_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"})

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def address_of(host: str) -> Address | None:
    """The IP address that ``host`` is, an IPv4 one inside IPv6 taken out; None for a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def is_link_local(host: str) -> bool:
    """Whether ``host`` is a link-local or cloud metadata address (http.md 2, SSRF), or a name that stands for one."""
    address = address_of(host)
    if address is None:
        return host.lower().rstrip(".") in _METADATA_NAMES
    return address.is_link_local or str(address) in _METADATA
