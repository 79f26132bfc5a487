"""T24: a webhook's URL reaches nothing that is not of the public internet."""

from __future__ import annotations

import socket

import httpcore
import pytest
from django.core.exceptions import ValidationError

from tests.outgoing.receiver import receiving
from x402_django.webhooks.addresses import is_public, validate_url
from x402_django.webhooks.sending import post

PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "192.88.99.1",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::7f00:1",
    "2002:7f00:1::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
]


def literal(address: str) -> str:
    return f"https://[{address}]/" if ":" in address else f"https://{address}/"


@pytest.fixture
def names(monkeypatch):
    """A resolver that answers as told, one answer after the other; and who was connected to."""
    answers: dict[str, list[list[str]]] = {}
    asked: list[str] = []
    connected: list[str] = []

    def getaddrinfo(host, port, *args, **kwargs):
        asked.append(host)
        found = answers[host].pop(0) if len(answers[host]) > 1 else answers[host][0]
        return [
            (
                socket.AF_INET6 if ":" in one else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (one, port),
            )
            for one in found
        ]

    def connect_tcp(self, host, *args, **kwargs):
        connected.append(host)
        raise httpcore.ConnectError("nobody is there")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect_tcp)
    return answers, asked, connected


@pytest.mark.parametrize("address", PRIVATE)
def test_t24_private_addresses_are_refused_when_entered_and_when_sent(address, names):
    answers, _, connected = names
    assert not is_public(address)
    with pytest.raises(ValidationError):
        validate_url(literal(address))
    answers["inside.example"] = [[address]]
    assert post("https://inside.example/", {}, b"{}").error == "address_refused"
    assert connected == []


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111"])
def test_t24_public_addresses_are_taken(address, names):
    answers, _, connected = names
    answers["public.example"] = [[address]]
    validate_url(literal(address))
    assert post("https://public.example/", {}, b"{}").error == "unreachable"
    assert connected == [address]


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0x7f.1", "017700000001", "127.1"])
def test_t24_other_spellings_of_the_loopback(host):
    with pytest.raises(ValidationError):
        validate_url(f"https://{host}/")
    # And without the form: the system's resolver reads them as 127.0.0.1.
    assert post(f"https://{host}/", {}, b"{}").error in ("address_refused", "unreachable")
    with receiving() as receiver:
        answer = post(f"http://{host}:{receiver.port}/", {}, b"{}")
        assert answer.status is None
        assert receiver.got == []


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.example/",
        "ftp://shop.example/",
        "file:///etc/passwd",
        "https://",
        "https://user:secret@shop.example/",
        "https://shop.example/#there",
        "https://shop.example\\@127.0.0.1/",
        "https://shop.example/\r\nX: y",
        "https://shop.example:99999/",
        "https://localhost/",
        "https://a.localhost/",
        "//shop.example/",
    ],
)
def test_t24_what_is_no_address_for_messages(url):
    with pytest.raises(ValidationError):
        validate_url(url)


def test_t24_one_private_address_among_public_ones_spoils_them(names):
    answers, _, connected = names
    answers["mixed.example"] = [["8.8.8.8", "10.0.0.1"]]
    assert post("https://mixed.example/", {}, b"{}").error == "address_refused"
    assert connected == []


def test_t24_a_name_that_changes_its_mind_is_asked_once(names):
    """DNS rebinding: public when looked at, private when connected to."""
    answers, asked, connected = names
    answers["rebind.example"] = [["8.8.8.8"], ["127.0.0.1"]]
    assert post("https://rebind.example/", {}, b"{}").error == "unreachable"
    assert asked == ["rebind.example"]
    assert connected == ["8.8.8.8"]
    assert post("https://rebind.example/", {}, b"{}").error == "address_refused"


def test_t24_redirects_are_not_followed(settings):
    settings.X402 = {**settings.X402, "WEBHOOKS_ALLOW_PRIVATE": True}
    with receiving() as inside, receiving() as outside:
        outside.status, outside.headers = 307, {"Location": inside.url}
        answer = post(outside.url, {}, b"{}")
        assert (answer.status, answer.error) == (307, "redirected")
        assert inside.got == []


def test_t24_proxies_of_the_environment_are_not_used(settings, monkeypatch):
    settings.X402 = {**settings.X402, "WEBHOOKS_ALLOW_PRIVATE": True}
    with receiving() as receiver, receiving() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert post(receiver.url, {}, b"{}").status == 200
        assert proxy.got == []
        assert receiver.got[0][0]["host"] == f"127.0.0.1:{receiver.port}"
