"""Whose data it is: by called AE title and peer address on DIMSE, by API key on HTTP. Pure."""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import TypeAlias

from serving.config import Tenant, key_fingerprint
from serving.errors import NotAuthenticated

DEFAULT_TENANT = "local"


@dataclass(frozen=True, slots=True)
class Rejected:
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21), and a sentence for the log."""

    result: int
    source: int
    diagnostic: int
    message: str


Rejection: TypeAlias = tuple[int, int, int]
CALLED_AE_UNKNOWN: Rejection = (1, 1, 7)
CALLING_AE_UNKNOWN: Rejection = (1, 1, 3)


def identify_peer(
    tenants: Sequence[Tenant], own_ae_title: str, *, called_ae_title: str, peer_address: str
) -> str | Rejected:
    """The tenant an association belongs to, or why it belongs to none.

    A tenant that lists AE titles is called by these; one that lists none is called by the server's own.
    Where several tenants share the server's own title, the first that allows the peer's address has it.
    """
    called = [t for t in tenants if called_ae_title in (t.ae_titles or (own_ae_title,))]
    if not called:
        return Rejected(*CALLED_AE_UNKNOWN, f"no tenant has the called AE title '{called_ae_title}'")
    for tenant in called:
        if not tenant.peers or any(_within(peer_address, network) for network in tenant.peers):
            return tenant.name
    message = f"'{called_ae_title}' does not take associations from {peer_address}"
    return Rejected(*CALLING_AE_UNKNOWN, message)


def identify_client(tenants: Sequence[Tenant], headers: Mapping[str, str], *, listens_on: str) -> str:
    """The tenant of an HTTP request: of its `Authorization: Bearer KEY` or `X-Api-Key`, or the keyless one.

    A tenant without keys is served to anybody who can reach the port, so only while the server listens on
    loopback; of several such tenants it is the one called `local`.

    Args:
        headers: of the request; names are looked up in lower case.
        listens_on: the host that the HTTP server is bound to.

    Raises: NotAuthenticated.
    """
    key = _api_key(headers)
    if key:
        fingerprint = key_fingerprint(key)
        for tenant in tenants:
            if any(hmac.compare_digest(fingerprint, known.lower()) for known in tenant.api_keys_sha256):
                return tenant.name
        raise NotAuthenticated("This API key is not known here.")
    keyless = [tenant.name for tenant in tenants if not tenant.api_keys_sha256]
    if keyless and _is_loopback(listens_on):
        return DEFAULT_TENANT if DEFAULT_TENANT in keyless else keyless[0]
    raise NotAuthenticated("An API key is needed: 'Authorization: Bearer KEY' or 'X-Api-Key: KEY'.")


def _api_key(headers: Mapping[str, str]) -> str:
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip()
    return headers.get("x-api-key", "").strip()


def _within(address: str, network: str) -> bool:
    """Whether an address lies in a network ('10.1.0.0/16') or is that address. A bad rule matches nothing."""
    try:
        peer = ip_address(address)
        mapped = getattr(peer, "ipv4_mapped", None)
        return (mapped or peer) in ip_network(network, strict=False)
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
