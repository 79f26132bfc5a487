"""Which addresses a message may be sent to (threat 24: SSRF by a webhook's URL)."""

from __future__ import annotations

import ipaddress
import socket
from typing import Final
from urllib.parse import SplitResult, urlsplit

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from x402_django.conf import x402

#: Addresses that carry another one, which would be reached through them: 6to4 and its relays,
#: NAT64, Teredo, IPv4-mapped and IPv4-compatible. Python versions differ on some of them.
_CARRIERS: Final = tuple(
    ipaddress.ip_network(one)
    for one in (
        "192.88.99.0/24",
        "::/96",
        "::ffff:0:0/96",
        "::ffff:0:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2001::/32",
        "2002::/16",
    )
)


class AddressRefused(Exception):
    """The name stands for an address that is not of the public internet."""


def is_public(address: str) -> bool:
    """Whether ``address`` is one of the public internet and carries no other."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if any(ip.version == net.version and ip in net for net in _CARRIERS):
        return False
    return ip.is_global and not (
        ip.is_private
        or ip.is_multicast
        or ip.is_reserved
        or ip.is_loopback
        or ip.is_link_local
        or ip.is_unspecified
    )


def resolve(host: str, port: int) -> list[str]:
    """The addresses of ``host``, asked once: connect to these and do not ask again.

    Raises AddressRefused if any of them is not public, and OSError if there is none. Where
    ``WEBHOOKS_ALLOW_PRIVATE`` is on, every address is taken.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
    if not addresses:
        raise OSError("no address")
    if not x402.webhooks_allow_private and not all(is_public(one) for one in addresses):
        raise AddressRefused
    return addresses


def validate_url(url: str) -> None:
    """Raises ValidationError for an address that no message is ever sent to.

    Names are not looked up here: what they stand for counts when a message is sent.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValidationError(_("This is not an address."), code="webhook_url") from None
    schemes = ("https", "http") if x402.webhooks_allow_private else ("https",)
    if parts.scheme not in schemes or not parts.hostname or port == 0 or not _is_plain(url):
        raise ValidationError(
            _("Write an address that begins with https:// and names a host."), code="webhook_url"
        )
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValidationError(
            _("Leave out user names, passwords and what follows “#”."), code="webhook_url"
        )
    if _is_refused_literal(parts):
        raise ValidationError(
            _("This address is not of the public internet. Give a public one."),
            code="webhook_address",
        )


def _is_plain(url: str) -> bool:
    return url.isascii() and url.isprintable() and " " not in url and "\\" not in url


def _is_refused_literal(parts: SplitResult) -> bool:
    if x402.webhooks_allow_private:
        return False
    host = parts.hostname or ""
    try:
        # Also the old spellings: 2130706433, 0x7f.1.
        address = socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        address = host
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return not is_public(address)
