"""Which addresses webhooks may have, and what is connected to."""

from __future__ import annotations

import socket
import time
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.notifications.addresses import check_webhook_url, is_public, read_ip
from jobs.notifications.connections import Deadline, connect, resolve
from jobs.schemas import JobCreate
from tests.support.waiting import slack

PRIVATE = [
    "10.1.2.3", "127.0.0.1", "127.255.255.254", "0.1.2.3", "169.254.169.254", "172.16.0.1",
    "172.31.255.255", "192.168.1.1", "100.64.0.1", "100.100.100.200", "168.63.129.16",
    "192.0.0.192", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
    "203.0.113.9", "192.0.2.1", "198.51.100.1",
]  # fmt: skip
PRIVATE_V6 = [
    "::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1", "2001:db8::1",
    "2001::1", "100::1", "::7f00:1", "::ffff:0:127.0.0.1", "64:ff9b:1::a00:1", "3fff::1", "5f00::1",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "1.1.1.1", "172.15.0.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111"]


def in_url(host: str) -> str:
    return f"https://[{host}]/hook" if ":" in host else f"https://{host}/hook"


@pytest.mark.parametrize("host", [*PRIVATE, *PRIVATE_V6])
def test_a_private_address_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="private address"):
        check_webhook_url(in_url(host))


@pytest.mark.parametrize("host", PRIVATE)
@pytest.mark.parametrize("form", ["decimal", "hex", "octal", "dot", "mapped", "6to4", "nat64"])
def test_a_private_address_is_refused_in_every_form(host: str, form: str) -> None:
    number = int(IPv4Address(host))
    octets = host.split(".")
    disguised = {
        "decimal": str(number),
        "hex": hex(number),
        "octal": ".".join(f"0{int(octet):o}" for octet in octets),
        "dot": f"{host}.",
        "mapped": f"::ffff:{host}",
        "6to4": str(IPv6Address((0x2002 << 112) | (number << 80))),
        "nat64": f"64:ff9b::{host}",
    }[form]
    with pytest.raises(ValueError, match="private address"):
        check_webhook_url(in_url(disguised))


@pytest.mark.parametrize("host", [*PUBLIC, "134744072", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"])
def test_a_public_address_is_taken(host: str) -> None:
    assert check_webhook_url(in_url(host)) == in_url(host)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "https://example.com:8443/a/b?c=d&e=%20#f",
        "https://hooks.xn--bcher-kva.example/x",
        "https://a_b.example.com./",
    ],
)
def test_a_name_is_taken_as_it_is(url: str) -> None:
    assert check_webhook_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "", "example.com", "ftp://example.com/", "file:///etc/passwd", "https://", "https:///x",
        "javascript:alert(1)", "//example.com/", "http://example.com:0/", "http://example.com:x/",
        "http://example.com:65536/", "http://user@example.com/", "http://u:p@example.com/",
        "http://@example.com/", "http://exa mple.com/", "http://example.com/\r\nX: y",
        "http://example.com/\x00", "http://example.com/\x7f", "\thttp://example.com/",
        "http://example.com\\@127.0.0.1/", "http://bücher.example/", "http://127。0。0。1/",
        "http://[::1", "http://[fe80::1%25eth0]/", "http://-a.example/", "http://a..example/",
        f"http://{'a' * 64}.example/", "http://1.2.3.4.5/", "http://256.1.1.1/", "http://127.0.0.1../",
        "http://%31%32%37.0.0.1/",
    ],
)  # fmt: skip
def test_what_is_no_good_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must"):
        check_webhook_url(url)


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST", "a.localhost", "metadata.google.internal", "redis", "nas.local"],
)
def test_a_name_of_the_own_network_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="private address"):
        check_webhook_url(f"http://{host}/")


def test_private_addresses_can_be_allowed(settings) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = True
    for host in ("localhost", "127.0.0.1", "[::1]", "2130706433"):
        assert check_webhook_url(f"http://{host}/")
    with pytest.raises(ValueError, match="user name"):
        check_webhook_url("http://user@localhost/")


def test_the_api_says_what_is_wrong_with_an_address() -> None:
    with pytest.raises(ValueError, match="must not lead to a private address"):
        JobCreate(chain="a", input="b", webhook_url="http://10.0.0.1/")


@given(st.ip_addresses())
def test_only_addresses_of_the_internet_are_public(address: IPv4Address | IPv6Address) -> None:
    # Addresses with others inside are the next test's; Python 3.11's releases differ about them.
    outer = [IPv6Network(text) for text in ("64:ff9b::/96", "::ffff:0:0/96", "2002::/16")]
    if is_public(address) and not any(address in network for network in outer):
        assert address.is_global
        assert not address.is_multicast
        assert not address.is_reserved


@given(st.ip_addresses(v=4))
def test_an_address_inside_another_is_judged_alike(address: IPv4Address) -> None:
    number = int(address)
    for outer in (
        IPv6Address(0xFFFF << 32 | number),
        IPv6Address(0x2002 << 112 | number << 80),
        IPv6Address(0x64FF9B << 96 | number),
    ):
        assert is_public(outer) == is_public(address)


@given(st.ip_addresses(v=4))
def test_what_resolvers_read_as_an_address_is_read_as_it(address: IPv4Address) -> None:
    a, b, c, d = address.packed
    forms = (
        str(int(address)),
        hex(int(address)),
        f"{a}.{b << 16 | c << 8 | d}",
        f"0{a:o}.{b}.{c}.{d}",
    )
    for form in forms:
        (*_, found), *_ = socket.getaddrinfo(form, 80, 0, socket.SOCK_STREAM)
        assert read_ip(form) == ip_address(found[0]) == address


@given(st.text(max_size=40))
def test_no_text_does_more_than_be_refused(text: str) -> None:
    for url in (text, f"http://{text}", f"http://example.com{text}"):
        try:
            said = check_webhook_url(url)
        except ValueError as error:
            said = str(error)
        assert said == url or said.startswith("must")


def test_a_name_is_judged_by_what_it_resolves_to() -> None:
    with pytest.raises(ValueError, match="private address"):
        resolve("localhost", 80, Deadline(5))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ValueError, match="private address"):
            connect(host="localhost", port=port, is_tls=False, deadline=Deadline(5), max_bytes=100)
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()


def test_one_private_address_among_public_ones_is_enough(monkeypatch) -> None:
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 80)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 80)),
    ]
    monkeypatch.setattr("jobs.notifications.connections.getaddrinfo", lambda *_: found)
    with pytest.raises(ValueError, match="private address"):
        resolve("rebinding.example", 80, Deadline(5))


def test_a_name_is_resolved_once_and_the_address_found_is_connected_to(
    monkeypatch, settings
) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = True
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def resolver(host, *_):
            asked.append(host)
            address = "127.0.0.1" if len(asked) == 1 else "169.254.169.254"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

        monkeypatch.setattr("jobs.notifications.connections.getaddrinfo", resolver)
        connect(
            host="rebinding.example", port=port, is_tls=False, deadline=Deadline(5), max_bytes=100
        ).hang_up()
        server.accept()[0].close()
    assert asked == [b"rebinding.example"]


def test_a_slow_name_server_is_given_up(monkeypatch) -> None:
    monkeypatch.setattr("jobs.notifications.connections.getaddrinfo", lambda *_: time.sleep(2))
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        resolve("slow.example", 80, Deadline(0.2))
    assert time.monotonic() - started < slack(1.8)
