"""The page on which receipts, and gas, are exported for a period."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.admin.widgets import AdminDateWidget
from django.core.exceptions import PermissionDenied
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from x402_django.admin.scoping import merchants_of
from x402_django.exceptions import ConfigurationError
from x402_django.models import ChainTransaction, RefundReceipt
from x402_django.reporting.exports import FORMATS, SUBJECTS, days, export, file_name

if TYPE_CHECKING:
    from django.http.response import HttpResponseBase
    from django.urls import URLPattern


class ExportForm(forms.Form):
    """Which days, of what, and as which kind of file."""

    first = forms.DateField(label=_("From"), widget=AdminDateWidget)
    last = forms.DateField(
        label=_("To"), widget=AdminDateWidget, help_text=_("The last day that is in it.")
    )
    subject = forms.ChoiceField(
        label=_("What"),
        help_text=_("Gas is what the site's own wallets paid to settle, in the network's coin."),
    )
    file_format = forms.ChoiceField(
        label=_("Format"), choices=[(name, one.label) for name, one in FORMATS.items()]
    )

    def __init__(self, *args: Any, with_gas: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["subject"].choices = [  # type: ignore[attr-defined]
            (name, label)
            for name, (label, _read, _columns) in SUBJECTS.items()
            if with_gas or name != "gas"
        ]

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        first, last = values.get("first"), values.get("last")
        if first and last and last < first:
            self.add_error("last", _("The last day is before the first."))
        return values


class Exports:
    """A ModelAdmin of receipts: has a page for exports. Rows are those of ``get_queryset``."""

    def get_urls(self) -> list[URLPattern]:
        admin: Any = self
        page = path(
            "export/",
            admin.admin_site.admin_view(self.export_view),
            name="x402_django_receipt_export",
        )
        return [page, *super().get_urls()]  # type: ignore[misc]

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """The form; and with a period in the query, the file."""
        admin: Any = self
        if not admin.has_view_permission(request):
            raise PermissionDenied
        asked = request.GET if "first" in request.GET else None
        form = ExportForm(asked, with_gas=self._may_see_gas(request))
        if form.is_valid():
            try:
                return self._file(request, form.cleaned_data)
            except ConfigurationError as error:
                form.add_error("file_format", str(error))
        return self._page(request, form)

    def _page(self, request: HttpRequest, form: ExportForm) -> HttpResponse:
        admin: Any = self
        context = {
            **admin.admin_site.each_context(request),
            "opts": admin.opts,
            "title": _now("Export"),
            "form": form,
            "media": admin.media + form.media,
        }
        status = 400 if form.errors else 200
        return TemplateResponse(request, "admin/x402_django/export.html", context, status=status)

    def _file(self, request: HttpRequest, chosen: dict[str, Any]) -> HttpResponseBase:
        subject, name = chosen["subject"], chosen["file_format"]
        admin: Any = self
        rows: Any = admin.get_queryset(request)
        if subject == "gas":
            rows = ChainTransaction.objects.all()
        elif subject == "refunds":
            seen = merchants_of(request)
            rows = RefundReceipt.objects.all()
            rows = rows if seen is None else rows.filter(merchant__in=seen)
        content = export(subject, rows, days(chosen["first"], chosen["last"]), name)
        kind = FORMATS[name]
        called = file_name(subject, chosen["first"], chosen["last"], name)
        response: HttpResponseBase
        if hasattr(content, "read"):
            response = FileResponse(content, content_type=kind.content_type)
        else:
            response = StreamingHttpResponse(content, content_type=kind.content_type)
        response["Content-Disposition"] = f'attachment; filename="{called}"'
        response["X-Content-Type-Options"] = "nosniff"
        return response

    @staticmethod
    def _may_see_gas(request: HttpRequest) -> bool:
        """It is the site's own money; see ``SiteOwned``."""
        may = request.user.has_perm("x402_django.view_chaintransaction")
        return may and merchants_of(request) is None
