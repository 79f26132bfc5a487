"""What would this request cost? Asked at the desk, answered by the code that prices real ones."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from django import forms
from django.contrib.admin.widgets import AdminSplitDateTime
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.test import RequestFactory
from django.urls import Resolver404, resolve
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from x402_django import clock
from x402_django.exceptions import ConfigurationError, ServiceUnavailable
from x402_django.http.catalogue import code_options
from x402_django.http.quoting import with_settlers
from x402_django.http.state import is_never_for_sale
from x402_django.models import Merchant
from x402_django.pricing import quote_request
from x402_django.pricing.cache import current_rules
from x402_django.pricing.conditions import Asker
from x402_django.pricing.explaining import Candidate, explain
from x402_django.pricing.money import format_amount, format_usd
from x402_django.protocol.networks import display_name

if TYPE_CHECKING:
    from x402_django.pricing import Quote

logger = logging.getLogger("x402_django.admin")

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_HEADER: Final = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]+)\s*:\s*(.*)")


class TryOutForm(forms.Form):
    """A request that nobody makes."""

    url = forms.CharField(
        label=_("Address"),
        widget=forms.TextInput(attrs={"class": "vTextField", "placeholder": "/articles/a/"}),
        help_text=_("Of a page of this site; the path is enough."),
    )
    method = forms.ChoiceField(label=_("Method"), choices=[(one, one) for one in _METHODS])
    user = forms.CharField(
        label=_("User"),
        required=False,
        widget=forms.TextInput(attrs={"class": "vTextField"}),
        help_text=_("A user name. Empty: somebody who is not logged in."),
    )
    headers = forms.CharField(
        label=_("Headers"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 3, "cols": 60, "spellcheck": "false"}),
        help_text=_("One a line, such as CF-IPCountry: DE."),
    )
    moment = forms.SplitDateTimeField(
        label=_("When"), required=False, widget=AdminSplitDateTime, help_text=_("Empty: now.")
    )

    def __init__(self, *args: Any, asker: Any, **kwargs: Any) -> None:
        self.asker = asker
        super().__init__(*args, **kwargs)

    def clean_url(self) -> str:
        """The path, with its query."""
        parts = urlsplit(self.cleaned_data["url"].strip())
        path = parts.path or "/"
        path = path if path.startswith("/") else f"/{path}"
        return f"{path}?{parts.query}" if parts.query else path

    def clean_user(self) -> Any:
        """The user of that name. Others than oneself only for who may see users."""
        name = self.cleaned_data["user"].strip()
        if not name:
            return AnonymousUser()
        if name == self.asker.get_username():
            return self.asker
        users: Any = get_user_model()
        label = f"{users._meta.app_label}.view_{users._meta.model_name}"
        if not self.asker.has_perm(label):
            raise ValidationError(_("You may not see other users; try with your own name."))
        try:
            return users._default_manager.get_by_natural_key(name)
        except users.DoesNotExist:
            raise ValidationError(_("There is no such user.")) from None

    def clean_headers(self) -> dict[str, str]:
        """The headers by name."""
        found = {}
        for line in self.cleaned_data["headers"].splitlines():
            if not line.strip():
                continue
            match = _HEADER.fullmatch(line.strip())
            if match is None:
                raise ValidationError(
                    _("“%(line)s” is no header."), code="no_header", params={"line": line}
                )
            found[match[1]] = match[2]
        return found


@dataclass(slots=True)
class Answer:
    """What it would cost. ``problem`` stands alone where it cannot be told."""

    problem: str = ""
    page: str = ""
    outcome: str = ""
    price: str = ""
    ways: list[str] = field(default_factory=list)
    grant: str = ""
    source: str = ""
    candidates: list[Candidate] = field(default_factory=list)


def try_out(asked: dict[str, Any], seen: frozenset[int] | None) -> Answer:
    """The answer to a valid form; of the merchants in ``seen`` (None: all)."""
    request = _request(asked)
    try:
        match = resolve(request.path_info)
    except Resolver404:
        return Answer(_now("There is no page at this address."))
    request.resolver_match = match
    answer = Answer(page=match.view_name or "")
    if is_never_for_sale(match.func):
        answer.outcome = _now("Free: this page is never for sale.")
        return answer
    options = code_options(match.func)
    key = options.rule if options else None
    rules = current_rules()
    owner = rules.owner_of(key=key, url_name=match.view_name)
    if seen is not None and owner not in seen:
        merchant = Merchant.objects.filter(pk=owner).first()
        words = _now("This page is sold by another merchant, %(name)s.")
        return Answer(words % {"name": merchant or owner})
    moment: datetime = asked["moment"] or clock.now()
    try:
        answer.candidates = explain(
            rules, key=key, url_name=match.view_name, method=asked["method"], moment=moment,
            asker=Asker(request),
        )  # fmt: skip
    except (ServiceUnavailable, ConfigurationError) as error:
        answer.problem = str(error)
        return answer
    chosen = next((one.rule for one in answer.candidates if one.is_chosen), None)
    if chosen is None and options is None:
        answer.outcome = _now("Free: no rule applies, and the code asks for nothing.")
        return answer
    answer.source = (
        _now("the rule “%(name)s”") % {"name": chosen.name} if chosen else _now("the code")
    )
    if chosen is not None and chosen.is_free:
        answer.outcome = _now("Free of charge.")
        return answer
    _price(answer, request, options, match.view_name, moment)
    return answer


def _price(
    answer: Answer, request: HttpRequest, options: Any, url_name: str | None, moment: datetime
) -> None:
    try:
        quote = quote_request(request, options, url_name, at=moment)
        quote = quote and with_settlers(quote)
    except (ServiceUnavailable, ConfigurationError) as error:
        answer.problem = str(error)
        return
    except Exception as error:  # the site's own code, which wants more than can be tried here
        logger.exception("The price of %s could not be tried.", request.path)
        answer.problem = _now("The price is made by the page’s code, which failed: %(error)s.") % {
            "error": type(error).__name__
        }
        return
    if quote is not None:
        _fill(answer, quote)


def _fill(answer: Answer, quote: Quote) -> None:
    answer.outcome = _now("Asked for its price.")
    if quote.price_usd is not None:
        answer.price = format_usd(quote.price_usd)
    answer.ways = [
        _now("%(amount)s on %(network)s")
        % {
            "amount": format_amount(offer.amount, offer.decimals, offer.symbol),
            "network": display_name(offer.network),
        }
        for offer in quote.offers
    ]
    answer.grant = "" if quote.grant is None else quote.grant.in_words()


def _request(asked: dict[str, Any]) -> HttpRequest:
    """The request, made up. Nothing of it is sent anywhere."""
    request: HttpRequest = RequestFactory().generic(
        asked["method"], asked["url"], headers=asked["headers"]
    )
    request.user = asked["user"]
    return request
