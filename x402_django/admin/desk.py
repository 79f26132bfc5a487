"""The dashboard: what was sold, what was not, and what is owed. An entry among the lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.http import urlencode
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from x402_django.admin.base import ModelAdmin
from x402_django.admin.desk_panels import panels
from x402_django.admin.read_only import NoWrites
from x402_django.admin.scoping import merchant_choices, merchants_of
from x402_django.desk import challenges
from x402_django.desk.figures import LENGTHS, STEPS, Period
from x402_django.models import Desk

if TYPE_CHECKING:
    from django.db.models import Model
    from django.http import HttpRequest, HttpResponse
    from django.urls import URLPattern

_STEP_NAMES = {"day": _("Day"), "week": _("Week"), "month": _("Month")}
#: What is chosen where nothing is.
_LENGTH = 30
_STEP_OF = {7: "day", 30: "day", 90: "day", 365: "week"}


class MerchantForm(forms.Form):
    """Whose figures; the rest of the choice stays."""

    merchant = forms.ChoiceField(label=_("Merchant"), required=False)

    def __init__(self, *args: Any, choices: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["merchant"].choices = [("", _now("All merchants")), *choices]  # type: ignore[attr-defined]


@admin.register(Desk)
class DeskAdmin(NoWrites, ModelAdmin):  # type: ignore[type-arg]
    """One page, for whoever may see payments: it has only sums of what their lists show."""

    class Media:
        css = {"all": ["x402_django/admin/admin.css", "x402_django/admin/desk.css"]}

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.desk_view)
        return [path("", view, name="x402_django_desk_changelist")]

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return request.user.has_perm("x402_django.view_payment")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def desk_view(self, request: HttpRequest) -> HttpResponse:
        """The dashboard of the days and merchants that the query names."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        challenges.flush()  # those of this process: with a single one, all there are
        names = merchant_choices(request)
        merchant = request.GET.get("merchant", "")
        if merchant not in {key for key, _name in names}:
            merchant = ""
        period = _period(request, merchant)
        sees_site = merchants_of(request) is None and not merchant
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _now("Dashboard"),
            "media": self.media,
            "period": period,
            "lengths": _choice(request, "days", LENGTHS, period.length, _length_name, merchant),
            "steps": _choice(request, "by", STEPS, period.step, _STEP_NAMES.get, merchant),
            "merchant_form": _merchant_form(names, merchant),
            **panels(
                period,
                merchant,
                with_wallets=sees_site
                and request.user.has_perm("x402_django.view_settlementwallet"),
            ),
        }
        return TemplateResponse(request, "admin/x402_django/desk.html", context)


def _period(request: HttpRequest, merchant: str) -> Period:
    """What was asked for; the usual where that makes no sense."""
    asked = request.GET.get("days", "")
    length = int(asked) if asked in map(str, LENGTHS) else _LENGTH
    step = request.GET.get("by", "")
    merchants = frozenset({int(merchant)}) if merchant else merchants_of(request)
    return Period(length, step if step in STEPS else _STEP_OF[length], merchants)


def _choice(
    request: HttpRequest, name: str, values: Any, chosen: Any, label: Any, merchant: str
) -> list[dict[str, Any]]:
    """Links to each of ``values``. Choosing other days also chooses what suits them by itself."""
    kept = {"merchant": merchant} if merchant else {}
    if name == "by" and "days" in request.GET:
        kept["days"] = request.GET["days"]
    return [
        {
            "label": label(value),
            "link": f"?{urlencode({**kept, name: value})}",
            "is_chosen": value == chosen,
        }
        for value in values
    ]


def _length_name(days: int) -> str:
    if days == 365:
        return _now("1 year")
    return ngettext("%d day", "%d days", days) % days


def _merchant_form(names: list[tuple[str, str]], merchant: str) -> MerchantForm | None:
    """For who sees several."""
    if len(names) < 2:
        return None
    return MerchantForm({"merchant": merchant}, choices=names)
