"""Who a peer or a client is: rules over AE titles, addresses and keys."""

import pytest

from serving.config import Tenant, key_fingerprint
from serving.errors import NotAuthenticated
from serving.tenants.identity import Rejected, identify_client, identify_peer

LOCAL = Tenant(name="local")
NORTH = Tenant(name="north", ae_titles=("NORTH", "NORTH2"), api_keys_sha256=(key_fingerprint("key"),))
FENCED = Tenant(name="fenced", ae_titles=("FENCED",), peers=("10.1.0.0/16", "2001:db8::/32", "192.0.2.7"))
ALL = (LOCAL, NORTH, FENCED)


def peer(called: str, address: str = "127.0.0.1") -> str | tuple[int, int, int]:
    whose = identify_peer(ALL, "LIGHTBOX", called_ae_title=called, peer_address=address)
    return (whose.result, whose.source, whose.diagnostic) if isinstance(whose, Rejected) else whose


@pytest.mark.parametrize(
    ("called", "address", "whose"),
    [
        ("LIGHTBOX", "127.0.0.1", "local"),
        ("NORTH", "127.0.0.1", "north"),
        ("NORTH2", "203.0.113.9", "north"),
        ("OTHER", "127.0.0.1", (1, 1, 7)),
        ("FENCED", "10.1.2.3", "fenced"),
        ("FENCED", "::ffff:10.1.2.3", "fenced"),
        ("FENCED", "2001:db8::1", "fenced"),
        ("FENCED", "192.0.2.7", "fenced"),
        ("FENCED", "10.2.0.1", (1, 1, 3)),
    ],
)
def test_a_peer_is_told_by_the_title_it_calls_and_where_it_calls_from(
    called: str, address: str, whose: str | tuple[int, int, int]
) -> None:
    assert peer(called, address) == whose


def test_a_client_is_told_by_its_key() -> None:
    for headers in ({"authorization": "Bearer key"}, {"x-api-key": "key"}):
        assert identify_client(ALL, headers, listens_on="0.0.0.0") == "north"
    for headers in ({"authorization": "Bearer other"}, {"x-api-key": "other"}):
        with pytest.raises(NotAuthenticated):
            identify_client(ALL, headers, listens_on="127.0.0.1")


def test_a_tenant_without_keys_is_only_served_on_loopback() -> None:
    assert identify_client(ALL, {}, listens_on="127.0.0.1") == "local"
    assert identify_client(ALL, {}, listens_on="::1") == "local"
    for host in ("0.0.0.0", "192.0.2.1", "example"):
        with pytest.raises(NotAuthenticated):
            identify_client(ALL, {}, listens_on=host)
    with pytest.raises(NotAuthenticated):
        identify_client((NORTH,), {}, listens_on="127.0.0.1")
