"""Which hosts and addresses a source may reach. Pure: names are resolved elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from affinage.errors import ConfigurationError

Address = IPv4Address | IPv6Address
_NAT64 = ip_network("64:ff9b::/96")
# An IPv4 address in disguise: what it stands for depends on the network.
_METADATA = frozenset({ip_address("168.63.129.16"), ip_address("100.100.100.200"), ip_address("fd00:ec2::254")})
# Those of clouds that lie outside the link-local range.


def check_host(host: str, egress_hosts: Sequence[str]) -> None:
    """Refuse a host that operators do not name.

    Raises
    ------
    ConfigurationError
        If `host` is not one of `egress_hosts`.
    """
    if host.lower() not in {name.lower() for name in egress_hosts}:
        raise ConfigurationError(
            f"The host `{host}` is not one that sources may reach.",
            hint="Correct the source, or let an operator add the host to `egress_hosts`.",
            host=host,
        )


def may_connect(address: str, egress_hosts: Sequence[str]) -> bool:
    """Whether a web site's host may have this address.

    A public one may. A private one only when it stands in `egress_hosts` as an address or a network (`10.1.2.3`,
    `10.1.0.0/16`), for a name alone may be pointed at any server inside. One that answers with a machine's credentials never may.
    """
    one = _plain(ip_address(address.partition("%")[0]))
    if one in _METADATA or one.is_link_local or one.is_multicast or one.is_unspecified or one in _NAT64:
        return False
    return one.is_global or any(one in network for network in _networks(egress_hosts))


def _plain(address: Address) -> Address:
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else address)
    return address


def _networks(egress_hosts: Sequence[str]) -> list[IPv4Network | IPv6Network]:
    found = []
    for entry in egress_hosts:
        try:
            found.append(ip_network(entry, strict=False))
        except ValueError:
            continue  # a name
    return found
