"""Ready-made facilitators for public services: an address, and how this site proves who it is.

    X402 = {
        "FACILITATORS": {
            "default": {"BACKEND": "x402_django.facilitators.presets.CDPFacilitator"},
        },
    }

Keys come from environment variables, which the options can name. They are not in the settings, in
a log or in an error. For a service that is not here, use ``RemoteFacilitator`` with ``URL`` and
``AUTH``, or copy the nearest of these.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import urlsplit

from x402_django import clock
from x402_django.exceptions import ConfigurationError
from x402_django.facilitators import tokens
from x402_django.facilitators.remote import RemoteFacilitator
from x402_django.protocol import sdk

if TYPE_CHECKING:
    from django.core.checks import CheckMessage

    from x402_django.protocol.types import SignedPayment

#: Seconds a token is good for. Each request has its own.
TOKEN_LIFETIME: Final = 120

_COMMON: Final = RemoteFacilitator.option_names - {"AUTH"}


class X402OrgFacilitator(RemoteFacilitator):
    """The public service of the x402 project: Base Sepolia and other test networks, no key.

    Its address has ``www``: the one without answers with a redirect
    (github.com/x402-foundation/x402, issue 605), and a signed payment does not follow redirects.

    Options: as ``RemoteFacilitator``, without ``AUTH``.
    """

    default_url = "https://www.x402.org/facilitator"
    option_names = _COMMON


class _KeyedFacilitator(RemoteFacilitator):
    """A service that wants headers made from keys in the environment.

    ``variables`` has the options that name an environment variable, with the names they have if
    the option is not given.
    """

    variables: ClassVar[Mapping[str, str]] = {}

    def auth_provider(self) -> Any:
        from x402_django.facilitators.transport import RequestHeaders

        return RequestHeaders(self.headers, self.alias)

    def headers(self, method: str, endpoint: str) -> dict[str, str]:
        """The headers of a request. Raises ConfigurationError."""
        raise NotImplementedError

    def variable(self, option: str) -> str:
        """Name of the environment variable of ``option``."""
        return str(self.options.get(option) or self.variables[option])

    def check_keys(self) -> None:
        """Raise ConfigurationError if the keys cannot be had."""
        self.headers("GET", "supported")

    def check(self) -> list[CheckMessage]:
        from django.core.checks import Error

        found = super().check()
        try:
            self.check_keys()
        except ConfigurationError as error:
            named = ", ".join(sorted(self.variables))
            found.append(
                Error(
                    f"X402['FACILITATORS'][{self.alias!r}] cannot authenticate: {error}",
                    hint=f"The options {named} name the environment variables.",
                    id="x402_django.E036",
                )
            )
        return found


class CDPFacilitator(_KeyedFacilitator):
    """Coinbase Developer Platform, with a secret API key, Ed25519 or ECDSA (P-256).

    Options:
        API_KEY_ID_ENV: environment variable with the key's id; default ``CDP_API_KEY_ID``.
        API_KEY_SECRET_ENV: … with its secret; default ``CDP_API_KEY_SECRET``.
        Others: as ``RemoteFacilitator``, without ``AUTH``.

    The token is that of ``generate_jwt`` in Coinbase's own SDK (github.com/coinbase/cdp-sdk,
    python/cdp/auth/utils/jwt.py, and x402.py beside it for the paths): it is good for two minutes
    and for one method, host and path, given in ``uris``. That SDK sets no audience either.
    """

    default_url = "https://api.cdp.coinbase.com/platform/v2/x402"
    variables = {
        "API_KEY_ID_ENV": "CDP_API_KEY_ID",
        "API_KEY_SECRET_ENV": "CDP_API_KEY_SECRET",
    }
    option_names = _COMMON | frozenset(variables)

    def headers(self, method: str, endpoint: str) -> dict[str, str]:
        key_id = tokens.from_environment(self.variable("API_KEY_ID_ENV"))
        where = urlsplit(self.url)
        now = clock.timestamp()
        claims = {
            "sub": key_id,
            "iss": "cdp",
            "nbf": now,
            "exp": now + TOKEN_LIFETIME,
            "uris": [f"{method} {where.netloc}{where.path}/{endpoint}"],
        }
        header = {"kid": key_id, "typ": "JWT", "nonce": secrets.token_hex(16)}
        return {"Authorization": f"Bearer {tokens.encode(header, claims, self._key)}"}

    @cached_property
    def _key(self) -> tokens.SigningKey:
        variable = self.variable("API_KEY_SECRET_ENV")
        secret = tokens.from_environment(variable)
        return tokens.SigningKey(secret, f"The environment variable {variable}")


class BearerFacilitator(_KeyedFacilitator):
    """A service that wants a fixed key, ``Authorization: Bearer …``: another site's
    ``x402_django.facilitators.urls`` among them.

    Options:
        URL: its base address; required.
        API_KEY_ENV: environment variable with the key; default ``X402_FACILITATOR_KEY``.
        Others: as ``RemoteFacilitator``, without ``AUTH``.
    """

    variables = {"API_KEY_ENV": "X402_FACILITATOR_KEY"}
    option_names = _COMMON | frozenset(variables)

    def headers(self, method: str, endpoint: str) -> dict[str, str]:
        key = tokens.from_environment(self.variable("API_KEY_ENV"))
        return {"Authorization": f"Bearer {key}"}


class ThirdwebFacilitator(_KeyedFacilitator):
    """thirdweb, with the secret key of a project; it settles from that project's server wallet.

    Options:
        SECRET_KEY_ENV: environment variable with the secret key; default ``THIRDWEB_SECRET_KEY``.
        VAULT_ACCESS_TOKEN_ENV: … with the access token of a vault. Sent with ``/settle`` if the
            option is given.
        Others: as ``RemoteFacilitator``, without ``AUTH``.

    Its API is documented in the shapes of version 1 with the network names of version 2
    (github.com/thirdweb-dev/js: apps/portal/src/app/x402/facilitator/page.mdx for the HTTP API,
    packages/thirdweb/src/x402/facilitator.ts for the headers), so it is spoken to in those.
    """

    default_url = "https://api.thirdweb.com/v1/payments/x402"
    x402_version = 1
    variables = {"SECRET_KEY_ENV": "THIRDWEB_SECRET_KEY"}
    option_names = _COMMON | {"SECRET_KEY_ENV", "VAULT_ACCESS_TOKEN_ENV"}

    def request_models(self, signed: SignedPayment) -> tuple[Any, Any]:
        return sdk.to_sdk_v1(signed)

    def headers(self, method: str, endpoint: str) -> dict[str, str]:
        found = {"x-secret-key": tokens.from_environment(self.variable("SECRET_KEY_ENV"))}
        vault = self.options.get("VAULT_ACCESS_TOKEN_ENV")
        if vault and endpoint == "settle":
            found["x-vault-access-token"] = tokens.from_environment(str(vault))
        return found

    def check_keys(self) -> None:
        self.headers("POST", "settle")


class PayAIFacilitator(_KeyedFacilitator):
    """PayAI: free of a key up to its monthly quota, with one beyond it.

    Options:
        API_KEY_ID_ENV: environment variable with the key's id; default ``PAYAI_API_KEY_ID``.
        API_KEY_SECRET_ENV: … with its secret; default ``PAYAI_API_KEY_SECRET``.
        Others: as ``RemoteFacilitator``, without ``AUTH``.

    Without both options and both variables, requests carry no key. The token is that of
    docs.payai.network/x402/facilitators/authentication.
    """

    default_url = "https://facilitator.payai.network"
    variables = {
        "API_KEY_ID_ENV": "PAYAI_API_KEY_ID",
        "API_KEY_SECRET_ENV": "PAYAI_API_KEY_SECRET",
    }
    option_names = _COMMON | frozenset(variables)

    def headers(self, method: str, endpoint: str) -> dict[str, str]:
        if not self._has_key:
            return {}
        key_id = tokens.from_environment(self.variable("API_KEY_ID_ENV"))
        now = clock.timestamp()
        claims = {
            "sub": key_id,
            "iss": "payai-merchant",
            "iat": now,
            "exp": now + TOKEN_LIFETIME,
            "jti": str(uuid.uuid4()),
        }
        token = tokens.encode({"typ": "JWT", "kid": key_id}, claims, self._key)
        return {"Authorization": f"Bearer {token}"}

    @property
    def _has_key(self) -> bool:
        """Whether one is meant to be used: half a key is an error, not the free quota."""
        named = any(self.options.get(option) for option in self.variables)
        return named or any(map(tokens.is_set, map(self.variable, self.variables)))

    @cached_property
    def _key(self) -> tokens.SigningKey:
        variable = self.variable("API_KEY_SECRET_ENV")
        secret = tokens.from_environment(variable).removeprefix("payai_sk_")
        return tokens.SigningKey(secret, f"The environment variable {variable}")
