"""Would paying help? The question behind 402 or 401.

A permission does not see the expression it stands in, yet only the expression tells whether the
answer to an unpaid request is 402: ``HasPaid`` under ``IsAuthenticated & HasPaid`` must not ask a
stranger for money, nor under ``HasPaid | IsAuthenticated`` somebody who is logged in. So all of
the view's permissions are evaluated twice in thought: once as if it was paid, once as if not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework.exceptions import APIException

if TYPE_CHECKING:
    from django.http import HttpRequest
    from rest_framework.request import Request
    from rest_framework.views import APIView

#: In place of an object: the view itself is in question, not an object of it.
VIEW_LEVEL: Final = object()

# On the HttpRequest, which DRF's copies of a request for other methods share.
_ASSUMED = "_x402_assumed_paid"
# On DRF's Request: one pass, one method.
_PROSPECTS = "_x402_prospects"

#: How a permission refuses other than by returning False.
_REFUSALS = (APIException, Http404, PermissionDenied)


@dataclass(frozen=True, slots=True)
class Prospect:
    """What the view's permissions say, unpaid and paid.

    ``refuser`` is the permission that says no to a payer too (None if it refuses by raising or
    if none does); ``is_part`` whether ``HasPaid`` stands in the view's permissions at all.
    """

    unpaid: bool
    paid: bool
    refuser: Any
    is_part: bool


def django_request(request: Request) -> HttpRequest:
    """The HttpRequest inside DRF's."""
    inner: HttpRequest = request._request
    return inner


def assumption(request: Request) -> bool | None:
    """Whether it is to be assumed at the moment that it was paid; None: look for yourself."""
    assumed: bool | None = vars(django_request(request)).get(_ASSUMED)
    return assumed


@contextmanager
def assuming(request: Request, *, paid: bool) -> Iterator[None]:
    """Let every ``HasPaid`` of this request answer ``paid`` for a while."""
    attributes = vars(django_request(request))
    before = attributes.get(_ASSUMED)
    attributes[_ASSUMED] = paid
    try:
        yield
    finally:
        attributes[_ASSUMED] = before


def prospect_of(request: Request, view: APIView, target: object, sort: type) -> Prospect:
    """What would become of the request, unpaid and paid, before ``target``.

    ``target`` is an object of the view or VIEW_LEVEL; ``sort`` is the class of permission that
    asks. Remembered per pass, so that others' permissions are not evaluated again and again.
    Raises what another permission raises, if it raises paid and unpaid alike.
    """
    known: dict[bool, tuple[APIView, object, Prospect]]
    known = vars(request).setdefault(_PROSPECTS, {})
    is_object = target is not VIEW_LEVEL
    if is_object in known:
        its_view, its_target, prospect = known[is_object]
        if its_view is view and its_target is target:
            return prospect
    prospect = _evaluate(request, view, target, sort)
    known[is_object] = (view, target, prospect)
    return prospect


def _evaluate(request: Request, view: APIView, target: object, sort: type) -> Prospect:
    permissions: list[Any] = list(view.get_permissions())
    if len(permissions) == 1 and type(permissions[0]) is sort:
        return Prospect(unpaid=False, paid=True, refuser=None, is_part=True)

    def allows(permission: Any) -> bool:
        if target is VIEW_LEVEL:
            return bool(permission.has_permission(request, view))
        return bool(permission.has_object_permission(request, view, target))

    try:
        with assuming(request, paid=False):
            unpaid = _first_refuser(permissions, allows) is None
    except _REFUSALS:
        unpaid = False
    refuser = None
    try:
        with assuming(request, paid=True):
            refuser = _first_refuser(permissions, allows)
        paid = refuser is None
    except _REFUSALS:
        if not unpaid:
            raise
        paid = False
    is_part = any(contains(permission, sort) for permission in permissions)
    return Prospect(unpaid=unpaid, paid=paid, refuser=refuser, is_part=is_part)


def _first_refuser(permissions: list[Any], allows: Callable[[Any], bool]) -> Any:
    return next((each for each in permissions if not allows(each)), None)


def contains(permission: Any, sort: type) -> bool:
    """Whether ``permission`` is a ``sort``, or an expression (``&``, ``|``, ``~``) with one."""
    if isinstance(permission, sort):
        return True
    operands = (getattr(permission, name, None) for name in ("op1", "op2"))
    return any(contains(operand, sort) for operand in operands if operand is not None)
