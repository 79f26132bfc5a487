"""The form of a PriceRule: pages to choose from, and prices that can really be paid."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.contrib.admin.widgets import FilteredSelectMultiple
from django.contrib.auth.models import Group, Permission
from django.core.exceptions import ValidationError
from django.utils import dates
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from x402_django.admin.display import usd
from x402_django.admin.routes import named_routes
from x402_django.admin.scoping import MerchantFormMixin
from x402_django.conf import x402
from x402_django.constants import DEFAULT_MERCHANT, EFFECT_FREE
from x402_django.exceptions import ConfigurationError
from x402_django.models import MerchantPage, PaymentMethod, PriceRule
from x402_django.pricing.methods import OfferTemplate, method_template, offers_for
from x402_django.pricing.money import parse_usd
from x402_django.pricing.rules import load_templates

#: HEAD costs what GET costs and OPTIONS is free, so neither is a choice.
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

#: Fields without which there is nothing to preview.
PRICE_FIELDS = ("price_usd", "token_amount", "payment_methods", "__all__")


#: Choices that are as the model has them by default where a form leaves them out.
_WITH_DEFAULTS = frozenset({"effect", "grants", "free_period", "free_per"})


def default_of(name: str) -> Any:
    """The default of a column of ``PriceRule``."""
    return PriceRule._meta.get_field(name).get_default()  # type: ignore[union-attr]


WEEKDAYS = dates.WEEKDAYS


class TextsField(forms.CharField):
    """A list of texts, one a line, or apart by a ``separator``."""

    def __init__(self, *args: Any, separator: str = "\n", **kwargs: Any) -> None:
        self.separator = separator
        super().__init__(*args, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        """As it is edited."""
        glue = "\n" if self.separator == "\n" else f"{self.separator} "
        return glue.join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        """As it is stored."""
        texts = value if isinstance(value, list) else str(value or "").split(self.separator)
        return [text.strip() for text in texts if text.strip()]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(list(initial or ()) != self.to_python(data))


class TiersField(forms.CharField):
    """Purchases and percents: ``10: 5%, 100: 20%``."""

    def prepare_value(self, value: Any) -> Any:
        """As it is edited."""
        if not isinstance(value, list):
            return value
        return ", ".join(f"{purchases}: {percent}%" for purchases, percent in value)

    def to_python(self, value: Any) -> Any:
        """As it is stored. Raises ValidationError."""
        if isinstance(value, list):
            return value
        tiers = []
        for part in filter(None, (one.strip() for one in str(value or "").split(","))):
            purchases, _colon, percent = part.partition(":")
            try:
                tiers.append([int(purchases), int(percent.strip().removesuffix("%"))])
            except ValueError:
                raise ValidationError(
                    _("“%(part)s” is no discount; write 10: 5%%."), params={"part": part}
                ) from None
        return tiers

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(list(initial or ()) != self.to_python(data))
        except ValidationError:
            return True


class PriceRuleForm(MerchantFormMixin, forms.ModelForm):  # type: ignore[type-arg]
    """See the module's docstring."""

    url_names = forms.MultipleChoiceField(
        label=_("Pages"),
        required=False,
        widget=FilteredSelectMultiple(_("pages"), is_stacked=False),
        help_text=_("The site's own pages that this price applies to."),
    )
    methods = forms.MultipleChoiceField(
        label=_("HTTP methods"),
        required=False,
        choices=[(method, method) for method in _METHODS],
        widget=forms.CheckboxSelectMultiple,
        help_text=_("None chosen: every method. HEAD costs what GET costs."),
    )

    groups = forms.MultipleChoiceField(
        label=_("Groups"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=_("Members of any of them. None chosen: anybody."),
    )
    weekdays = forms.TypedMultipleChoiceField(
        label=_("Days of the week"),
        required=False,
        choices=list(WEEKDAYS.items()),
        coerce=int,
        widget=forms.CheckboxSelectMultiple,
        help_text=_("None chosen: every day."),
    )
    countries = TextsField(
        label=_("Countries"),
        required=False,
        separator=",",
        help_text=_("Two letters each, as your proxy says in X402['COUNTRY_HEADER']: DE, AT."),
    )
    header_values = TextsField(
        label=_("Values of the header"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 2, "cols": 60, "spellcheck": "false"}),
        help_text=_(
            "One a line; any of them, exactly. Empty: whatever it says. A secret can be written as "
            "sha256: and its SHA-256 in hexadecimal."
        ),
    )
    volume_tiers = TiersField(
        label=_("Discounts by volume"),
        required=False,
        help_text=_(
            "By the purchases of a wallet in the last 30 days: 10: 5%, 100: 20% takes 5 percent "
            "off from the tenth on, and 20 from the hundredth."
        ),
    )
    pass_pages = forms.MultipleChoiceField(
        label=_("Pass: also opens"),
        required=False,
        widget=FilteredSelectMultiple(_("pages"), is_stacked=False),
        help_text=_("Pages that the pass opens beside those that it is sold on."),
    )

    class Meta:
        model = PriceRule
        fields = (
            "merchant",
            "name",
            "active",
            "priority",
            "url_names",
            "key",
            "methods",
            "valid_from",
            "valid_until",
            "effect",
            "audience",
            "groups",
            "permission",
            "header_name",
            "header_values",
            "countries",
            "hours_from",
            "hours_until",
            "weekdays",
            "price_usd",
            "token_amount",
            "unit_price_usd",
            "payment_methods",
            "grants",
            "pass_hours",
            "pass_uses",
            "pass_pages",
            "pass_for_object",
            "credits_usd",
            "takes_credits",
            "holder_discount",
            "volume_tiers",
            "free_requests",
            "free_period",
            "free_per",
            "flow",
            "session_access",
            "identifier_required",
            "description",
            "mime_type",
        )
        widgets = {"payment_methods": forms.CheckboxSelectMultiple}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in _WITH_DEFAULTS & set(self.fields):
            self.fields[name].required = False
        if "groups" in self.fields:
            cast("forms.ChoiceField", self.fields["groups"]).choices = self._groups()
        for name in ("url_names", "pass_pages"):
            if name in self.fields:
                cast("forms.ChoiceField", self.fields[name]).choices = self._pages(name)
        if self.instance.price_usd is not None:
            self.initial["price_usd"] = usd(self.instance.price_usd).removeprefix("$")

    def _groups(self) -> list[tuple[str, str]]:
        """The site's groups; and those of the rule that are gone, in whom nobody is."""
        groups = [(str(pk), name) for pk, name in Group.objects.values_list("pk", "name")]
        known = {pk for pk, _name in groups}
        gone = gettext("group %(key)s (deleted: nobody is in it)")
        stored = (str(one) for one in self.instance.groups or ())
        return groups + [(one, gone % {"key": one}) for one in stored if one not in known]

    def clean_groups(self) -> list[int]:
        """As keys."""
        return [int(one) for one in self.cleaned_data["groups"]]

    def clean_permission(self) -> str:
        """One that there is: superusers have any, also one that is misspelt."""
        name = str(self.cleaned_data["permission"])
        label, _dot, codename = name.partition(".")
        known = Permission.objects.filter(content_type__app_label=label, codename=codename)
        if name and not known.exists():
            raise ValidationError(_("There is no such permission."), code="no_permission")
        return name

    def clean_countries(self) -> list[str]:
        """In capitals; only where there is somebody to say from where a visitor is."""
        countries = [one.upper() for one in self.cleaned_data["countries"]]
        if countries and not x402.country_header:
            raise ValidationError(
                _(
                    "This site does not know countries: X402['COUNTRY_HEADER'] has to name the "
                    "header in which its proxy tells them."
                ),
                code="no_country_header",
            )
        return countries

    def _pages(self, field: str) -> list[tuple[str, str]]:
        choices = [(route.name, route.label) for route in named_routes()]
        known = {name for name, _label in choices}
        gone = gettext("%(name)s (no such page any more)")
        stored = (name for name in getattr(self.instance, field) or () if name not in known)
        return choices + [(name, gone % {"name": name}) for name in stored]

    def clean(self) -> dict[str, Any]:
        super().clean()
        for name in _WITH_DEFAULTS & set(self.cleaned_data):
            self.cleaned_data[name] = self.cleaned_data[name] or default_of(name)
        if not self.errors and not self.cleaned_data["key"] and not self.cleaned_data["url_names"]:
            self.add_error(
                "url_names",
                _("Choose at least one page, or give a key; this price applies to nothing."),
            )
        if "merchant" not in self.errors:
            self._check_merchant()
        is_free = self.cleaned_data.get("effect") == EFFECT_FREE
        if not is_free and not any(name in self.errors for name in PRICE_FIELDS):
            self._check_price()
        return self.cleaned_data

    def _check_merchant(self) -> None:
        """The pages are the merchant's to sell, and the money goes to no other."""
        merchant = self._merchant()
        named = [
            *(("url_names", name) for name in self.cleaned_data.get("url_names", ())),
            *(("pass_pages", name) for name in self.cleaned_data.get("pass_pages", ())),
            ("key", self.cleaned_data.get("key", "")),
        ]
        pages = MerchantPage.objects.filter(name__in=[name for _field, name in named])
        owners = dict(pages.values_list("name", "merchant"))
        for field, name in named:
            if name and owners.get(name, DEFAULT_MERCHANT) != merchant:
                self.add_error(
                    field,
                    ValidationError(
                        _(
                            "“%(page)s” is not among the pages of this merchant, so nobody would "
                            "be asked for this price. Who administers the site can add it there."
                        ),
                        code="not_theirs",
                        params={"page": name},
                    ),
                )
        chosen = self.cleaned_data.get("payment_methods") or ()
        if any(method.merchant_id != merchant for method in chosen):
            self.add_error(
                "payment_methods",
                ValidationError(
                    _("A chosen payment method belongs to another merchant, who would be paid."),
                    code="not_theirs",
                ),
            )

    def _merchant(self) -> int:
        chosen = self.cleaned_data.get("merchant") or self.instance.merchant
        return int(chosen.pk)

    def _check_price(self) -> None:
        price, amount = self.cleaned_data.get("price_usd"), self.cleaned_data.get("token_amount")
        templates = self._templates()
        if (price is None) == (amount is None):
            return  # the model's constraint says so
        if amount is not None:
            self._check_token_amount(amount, templates)
        if "token_amount" in self.errors:
            return
        try:
            dollars = None if price is None else parse_usd(f"{price:f}")
            if templates:
                offers_for(templates, price_usd=dollars, token_amount=amount)
        except ConfigurationError as error:
            self.add_error("price_usd" if amount is None else "token_amount", str(error))

    def _templates(self) -> list[OfferTemplate]:
        """The ways of being paid that this rule would offer; an error where there is none."""
        chosen: list[PaymentMethod] = list(self.cleaned_data.get("payment_methods") or ())
        if chosen:
            if self.cleaned_data.get("active") and not any(method.active for method in chosen):
                self.add_error(
                    "payment_methods",
                    ngettext(
                        "The chosen payment method is not active, so nobody could pay.",
                        "None of the chosen payment methods is active, so nobody could pay.",
                        len(chosen),
                    ),
                )
            return [method_template(method) for method in chosen]
        templates = list(load_templates(self._merchant()))
        if not templates and self.cleaned_data.get("active"):
            self.add_error(
                "payment_methods",
                _("There is no active payment method yet, so nobody could pay. Add one first."),
            )
        return templates

    def _check_token_amount(self, amount: int, templates: list[OfferTemplate]) -> None:
        if amount == 0:
            self.add_error("token_amount", _("The price must be more than nothing."))
        if len({template.decimals for template in templates}) > 1:
            tokens = sorted({f"{t.symbol} ({t.decimals})" for t in templates})
            self.add_error(
                "token_amount",
                ValidationError(
                    _(
                        "The payment methods' tokens have different decimals, %(tokens)s: the same "
                        "number would be different amounts of money. Choose methods of one kind, "
                        "or give a price in US dollars."
                    ),
                    code="decimals",
                    params={"tokens": ", ".join(tokens)},
                ),
            )
