"""Sold API views of every kind, as sites write them."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group, User
from django.db import connection
from django.http import HttpResponse
from django.views.decorators.cache import cache_page
from rest_framework import generics, serializers, viewsets
from rest_framework.authentication import BasicAuthentication, SessionAuthentication
from rest_framework.decorators import (
    action,
    api_view,
    authentication_classes,
    permission_classes,
)
from rest_framework.permissions import (
    SAFE_METHODS,
    AllowAny,
    BasePermission,
    IsAdminUser,
    IsAuthenticated,
)
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle, UserRateThrottle
from rest_framework.views import APIView, exception_handler

from tests.rest_framework.people import Closed, Hidden, IsOwner, NameToken
from tests.shop.runs import runs
from x402_django.exceptions import PaymentRequired
from x402_django.http.decorators import payment_required
from x402_django.rest_framework import HasPaid


class Sold(APIView):
    """GET and POST for two cents."""

    authentication_classes = [NameToken]
    permission_classes = [HasPaid]
    price: Any = "$0.02"

    def get(self, request: Any, **kwargs: Any) -> Response:
        runs["view"] += 1
        payer = request.payment.payer if request.payment else None
        return Response({"payer": payer, "user": str(request.user)})

    def post(self, request: Any, **kwargs: Any) -> Response:
        runs["view"] += 1
        files = {name: file.read().decode() for name, file in request.FILES.items()}
        data = {name: request.data[name] for name in request.data if name not in files}
        return Response({"data": data, "files": files}, status=201)


EXPRESSIONS: dict[str, list[Any]] = {
    "paid": [HasPaid],
    "member-and-paid": [IsAuthenticated & HasPaid],
    "paid-and-member": [HasPaid & IsAuthenticated],
    "member-or-paid": [IsAuthenticated | HasPaid],
    "paid-or-member": [HasPaid | IsAuthenticated],
    "not-paid": [~HasPaid],
    "staff-or-member-and-paid": [IsAdminUser | (IsAuthenticated & HasPaid)],
    "member-and-paid-or-staff": [(IsAuthenticated & HasPaid) | IsAdminUser],
    "member-list-paid": [IsAuthenticated, HasPaid],
    "paid-list-member": [HasPaid, IsAuthenticated],
    "paid-list-closed": [HasPaid, Closed],
    "paid-list-hidden": [HasPaid, Hidden],
    "paid-or-hidden": [HasPaid | Hidden],
    "not-paid-or-hidden": [~HasPaid | Hidden],
    "paid-and-staff-or-not-paid-and-member": [
        (HasPaid & IsAdminUser) | (~HasPaid & IsAuthenticated)
    ],
}
EXPRESSION_VIEWS = {
    name: type("Expression", (Sold,), {"permission_classes": classes})
    for name, classes in EXPRESSIONS.items()
}


class PersonSerializer(serializers.ModelSerializer[User]):
    class Meta:
        model = User
        fields = ("username", "first_name")


class Person(generics.RetrieveUpdateDestroyAPIView[User]):
    authentication_classes = [NameToken]
    queryset = User.objects.all()
    serializer_class = PersonSerializer
    lookup_field = "username"
    price = "$0.02"


OBJECT_EXPRESSIONS: dict[str, list[Any]] = {
    "owner-or-paid": [IsOwner | HasPaid],
    "paid-or-owner": [HasPaid | IsOwner],
    "member-list-owner-or-paid": [IsAuthenticated, IsOwner | HasPaid],
    "paid-and-owner": [HasPaid & IsOwner],
    "paid-list-owner": [HasPaid, IsOwner],
    "member-and-owner-or-paid": [(IsAuthenticated & IsOwner) | HasPaid],
}
OBJECT_VIEWS = {
    name: type("ObjectExpression", (Person,), {"permission_classes": classes})
    for name, classes in OBJECT_EXPRESSIONS.items()
}


class Everybody(Person):
    """Checks one object after the other; the owner's own comes first."""

    permission_classes = [HasPaid | IsOwner]

    def get(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        people = sorted(self.get_queryset(), key=lambda person: person != request.user)
        for person in people:
            self.check_object_permissions(request, person)
            runs["checked"] += 1
        return Response([person.username for person in people])


class ByPerson(Person):
    """Priced by its object, which only its owner may buy."""

    permission_classes = [HasPaid & IsOwner]

    def get_price(self, request: Any) -> str:
        return f"$0.{len(self.get_object().username):02d}"


class People(generics.ListCreateAPIView[User]):
    authentication_classes = [NameToken]
    permission_classes = [HasPaid]
    queryset = User.objects.order_by("username")
    serializer_class = PersonSerializer
    price = "$0.02"


class Desk(viewsets.ModelViewSet[User]):
    """Listing is free, looking costs, writing is for members who pay."""

    authentication_classes = [NameToken]
    queryset = User.objects.order_by("username")
    serializer_class = PersonSerializer
    lookup_field = "username"
    price = "$0.02"
    x402_asks = True

    def get_permissions(self) -> list[Any]:
        if self.action == "list":
            return [AllowAny()]
        if self.action == "retrieve":
            return [HasPaid()]
        if self.action == "greet":
            return super().get_permissions()
        return [IsAuthenticated(), HasPaid()]

    def list(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        runs["list"] += 1
        return super().list(request, *args, **kwargs)


class Greetings(viewsets.ViewSet):
    authentication_classes = [NameToken]
    permission_classes = [AllowAny]

    @action(detail=False, permission_classes=[IsAuthenticated & HasPaid])
    def greet(self, request: Any) -> Response:
        runs["greet"] += 1
        return Response("hello")


@api_view(["GET"])
@authentication_classes([NameToken])
@permission_classes([HasPaid])
def function(request: Any) -> Response:
    """Has no attributes: priced by a rule on its URL name only."""
    return Response({"payer": request.payment.payer})


@api_view(["GET"])
@payment_required("$0.03")
def decorated(request: Any) -> Response:
    runs["decorated"] += 1
    return Response({"payer": request.payment.payer})


@api_view(["GET"])
def raising(request: Any) -> Response:
    if request.payment is None:
        raise PaymentRequired("$0.04")
    return Response({"payer": request.payment.payer})


@payment_required("$0.01")
@api_view(["GET"])
@permission_classes([HasPaid])
def twice(request: Any) -> Response:
    runs["view"] += 1
    return Response("bought for the lower price")


twice.cls.price = "$5"


class Counting(BaseThrottle):
    def allow_request(self, request: Any, view: Any) -> bool:
        runs["throttle"] += 1
        return True


class OncePerMinute(UserRateThrottle):
    rate = "1/min"


class Throttled(Sold):
    throttle_classes = [Counting, OncePerMinute]


class ThrottledPerson(Person):
    permission_classes = [IsOwner | HasPaid]
    throttle_classes = [Counting]


class Basic(Sold):
    authentication_classes = [BasicAuthentication]
    permission_classes = [IsAuthenticated, HasPaid]


class SessionOrToken(Sold):
    authentication_classes = [SessionAuthentication, NameToken]
    permission_classes = [IsAuthenticated & HasPaid]


class Pages(Sold):
    """A cent per page that is asked for in the body."""

    def get_price(self, request: Any) -> str:
        runs["get_price"] += 1
        return f"$0.{int(request.data['pages']):02d}"


class Whimsical(Sold):
    """Dearer each time it is asked, from the third time on."""

    def get_price(self, request: Any) -> str:
        runs["get_price"] += 1
        return "$0.02" if runs["get_price"] <= 2 else "$0.99"


class ByCents(Sold):
    def get_price(self, request: Any) -> str:
        return f"$0.{self.kwargs['cents']:02d}"


def bundle(request: Any) -> HttpResponse:
    """Calls one view twice, for a cheap thing and for a dear one."""
    view = ByCents.as_view()
    parts = [view(request, cents=cents) for cents in (1, 50)]
    return HttpResponse(b"".join(part.render().content for part in parts))


class Ruled(Sold):
    price = None
    price_rule = "forecast"
    price_description = "Tomorrow's weather"
    price_mime_type = "application/json"


class Unpriced(Sold):
    price = None


class UnpricedForStrangers(Unpriced):
    permission_classes = [HasPaid | IsAuthenticated]


class OnAccount(Sold):
    payment_flow = "authorization"


class Failing(Sold):
    def get(self, request: Any, **kwargs: Any) -> Response:
        runs["atomic"] += connection.in_atomic_block
        Group.objects.create(name="written by a view that fails")
        raise RuntimeError("secret detail of the site")


class ByHand(Sold):
    permission_classes = []

    def get(self, request: Any, **kwargs: Any) -> Response:
        allowed = HasPaid().has_permission(request, self)
        runs["view"] += 1
        return Response({"allowed": allowed})


class WritesArePaid(BasePermission):
    """Wraps HasPaid, so that the expression does not show it."""

    def has_permission(self, request: Any, view: Any) -> bool:
        return request.method in SAFE_METHODS or HasPaid().has_permission(request, view)


class PaidForWrites(HasPaid):
    def has_permission(self, request: Any, view: Any) -> bool:
        return request.method in SAFE_METHODS or super().has_permission(request, view)


class Wrapping(Sold):
    permission_classes = [WritesArePaid]


class Subclassing(Sold):
    permission_classes = [IsAuthenticated & PaidForWrites]


def _renaming(exc: Exception, context: Any) -> Response | None:
    response = exception_handler(exc, context)
    if response is not None:
        response.data = {"problem": {"codes": exc.get_codes(), "full": exc.get_full_details()}}
    return response


def _cheerful(exc: Exception, context: Any) -> Response:
    return Response({"ok": False}, status=200)


def handled_by(handler: Any) -> type[Sold]:
    class Handled(Sold):
        renderer_classes = [JSONRenderer]

        def get_exception_handler(self) -> Any:
            return handler

    return Handled


Renamed = handled_by(_renaming)
Cheerful = handled_by(_cheerful)
Unhandled = handled_by(lambda exc, context: None)

cached = cache_page(60)(Sold.as_view())


@payment_required("$0.01")
def protected_form(request: Any) -> HttpResponse:
    """A plain view: its form is read by the CSRF check before the gate sees it."""
    return HttpResponse(request.POST["name"] + request.FILES["file"].read().decode())
