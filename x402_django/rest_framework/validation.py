"""Whether a view could use a request, asked before the request is paid for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework.mixins import CreateModelMixin

from x402_django.rest_framework.hypotheses import assuming

if TYPE_CHECKING:
    from rest_framework.request import Request
    from rest_framework.views import APIView


def validate_before_payment(request: Request, view: APIView) -> None:
    """Raise what ``view`` would raise for ``request``, as far as that can be told beforehand.

    Its ``validate_request(request)`` decides, if it has one. Otherwise what is to be created is
    validated as ``CreateModelMixin`` does. Raises APIException, mostly ValidationError.
    """
    own: Any = getattr(view, "validate_request", None)
    creates = (
        isinstance(view, CreateModelMixin)
        and request.method == "POST"
        and getattr(view, "action", None) in (None, "create")
    )
    with assuming(request, paid=True):
        if own is not None:
            own(request)
        elif creates:
            view.get_serializer(data=request.data).is_valid(raise_exception=True)  # type: ignore[attr-defined]
