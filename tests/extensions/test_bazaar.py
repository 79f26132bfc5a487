"""What resources declare, as the official SDK's catalogue reads it; and requests refused unpaid."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.checks import run_checks
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client, override_settings
from django.urls import include, path
from rest_framework import generics, mixins, serializers, viewsets
from rest_framework.pagination import PageNumberPagination
from rest_framework.response import Response
from rest_framework.views import APIView
from x402.extensions.bazaar import extract_discovery_info, validate_discovery_extension
from x402.extensions.bazaar.types import parse_discovery_extension
from x402.schemas import parse_payment_payload, parse_payment_requirements

from tests.settings import X402
from tests.shop.runs import runs
from x402_django.extensions.bazaar import declaration
from x402_django.http.decorators import payment_required
from x402_django.models import Payment
from x402_django.protocol.sdk import to_sdk_payload
from x402_django.protocol.service_metadata import service_metadata
from x402_django.protocol.types import SignedPayment
from x402_django.rest_framework import HasPaid
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import Payer, decode, encode

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.extensions.test_bazaar")]

OFFER = {
    "scheme": "exact", "network": "eip155:84532", "amount": "10000", "maxTimeoutSeconds": 300,
    "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "payTo": "0x" + "1" * 40,
    "extra": {"name": "USDC", "version": "2"},
}  # fmt: skip
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@payment_required(
    "$0.01",
    extensions={
        "bazaar": {
            "INPUT": {"city": "Berlin"},
            "INPUT_SCHEMA": CITY,
            "OUTPUT": {"sky": "blue"},
            "OUTPUT_SCHEMA": {"type": "object", "properties": {"sky": {"type": "string"}}},
        }
    },
)
def weather(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"sky": "blue"})


@payment_required("$0.01")
def article(request: HttpRequest, slug: str) -> HttpResponse:
    return HttpResponse(slug)


@payment_required("$0.01", extensions={"bazaar": False})
def silent(request: HttpRequest) -> HttpResponse:
    return HttpResponse("unlisted")


def check_order(request: HttpRequest) -> HttpResponse | None:
    runs["check_order"] += 1
    order = request.POST.get("order")
    if order == "sold out" or runs["sold out"]:
        return HttpResponse("sold out", status=410)
    if order == "free":
        return HttpResponse("free lunch")
    if not order:
        raise ValidationError("Say what you order.")
    return None


@payment_required("$0.05", validate=check_order)
def order(request: HttpRequest) -> HttpResponse:
    runs["order"] += 1
    if runs["order"] == 1 and request.POST["order"] == "flaky":
        raise RuntimeError("the kitchen burns")
    return HttpResponse(f"ordered {request.POST['order']}")


class Size(serializers.ChoiceField):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(choices=[("s", "small"), ("l", "large")], **kwargs)


class ToppingSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(min_length=6, max_length=20)
    grams = serializers.IntegerField(min_value=5, max_value=500, required=False)


class PizzaSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(read_only=True)
    size = Size()
    price = serializers.DecimalField(max_digits=6, decimal_places=2)
    eaten_at = serializers.DateTimeField(allow_null=True)
    note = serializers.CharField(write_only=True, required=False, help_text="For the cook")
    secret = serializers.HiddenField(default="x")
    toppings = ToppingSerializer(many=True)
    tags = serializers.ListField(child=serializers.SlugField(), required=False)


class GroupSerializer(serializers.ModelSerializer[Group]):
    class Meta:
        model = Group
        fields = ("id", "name")


class Pages(PageNumberPagination):
    page_size = 2


class Groups(mixins.CreateModelMixin, mixins.ListModelMixin, viewsets.GenericViewSet[Group]):
    permission_classes = [HasPaid]
    authentication_classes: list[Any] = []
    queryset = Group.objects.order_by("pk")
    serializer_class = GroupSerializer
    pagination_class = Pages
    price = "$0.02"


class Pizza(generics.CreateAPIView[Any]):
    permission_classes = [HasPaid]
    authentication_classes: list[Any] = []
    serializer_class = PizzaSerializer
    price = "$0.02"

    def create(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        runs["pizza"] += 1
        return Response({"baked": True}, status=201)


class Own(APIView):
    permission_classes = [HasPaid]
    authentication_classes: list[Any] = []
    price = "$0.02"

    def validate_request(self, request: Any) -> None:
        if "answer" not in request.data:
            raise serializers.ValidationError({"answer": ["is missing"]})

    def post(self, request: Any) -> Response:
        runs["own"] += 1
        return Response({"right": request.data["answer"] == 42})


urlpatterns = [
    path("weather/", weather),
    path("articles/<slug:slug>/", article),
    path("silent/", silent),
    path("order/", order),
    path("pizza/", Pizza.as_view()),
    path("own/", Own.as_view()),
    path("groups/", Groups.as_view({"get": "list", "post": "create"})),
    path("", include("tests.urls")),
]
ON = override_settings(X402={**X402, "EXTENSIONS": {"bazaar": {}}})


@pytest.fixture(autouse=True)
def _on() -> Any:
    with ON:
        yield


def challenge_of(client: Client, url: str, method: str = "GET", **kwargs: Any) -> dict[str, Any]:
    response = client.generic(method, url, **kwargs)
    assert response.status_code == 402, response.content
    return decode(response["PAYMENT-REQUIRED"])


def declared(client: Client, url: str, method: str = "GET") -> dict[str, Any]:
    """The declaration, once the official validator has found it to fit its own schema."""
    found: dict[str, Any] = challenge_of(client, url, method)["extensions"]["bazaar"]
    result = validate_discovery_extension(parse_discovery_extension(found))
    assert result.valid, result.errors
    return found


class TestDeclarations:
    def test_what_the_view_says(self, client):
        found = declared(client, "/weather/?city=Rome")
        assert found["info"] == {
            "input": {"type": "http", "method": "GET", "queryParams": {"city": "Berlin"}},
            "output": {"type": "json", "example": {"sky": "blue"}},
        }
        query = found["schema"]["properties"]["input"]["properties"]["queryParams"]
        assert query["required"] == ["city"]

    def test_a_view_that_says_nothing_is_named_all_the_same(self, client):
        assert declared(client, "/order/", "POST")["info"] == {
            "input": {"type": "http", "method": "POST", "bodyType": "json", "body": {}}
        }
        assert "bazaar" not in challenge_of(client, "/silent/")["extensions"]

    def test_routes_are_named_by_their_template(self, client):
        found = declared(client, "/articles/a-b/")
        assert found["routeTemplate"] == "/articles/:slug/"
        assert found["info"]["input"]["pathParams"] == {"slug": "a-b"}

    def test_a_serializer_says_what_goes_in_and_what_comes_out(self, client):
        found = declared(client, "/pizza/", "POST")
        body = found["schema"]["properties"]["input"]["properties"]["body"]
        assert set(body["properties"]) == {
            "size", "price", "eaten_at", "note", "toppings", "tags",
        }  # fmt: skip
        assert body["required"] == ["size", "price", "eaten_at", "toppings"]
        assert body["properties"]["toppings"]["items"]["properties"]["name"] == {
            "type": "string", "minLength": 6, "maxLength": 20,
        }  # fmt: skip
        assert body["properties"]["note"]["description"] == "For the cook"
        example = found["info"]["input"]["body"]
        assert example["toppings"] == [{"name": "textxx", "grams": 5}]
        assert example["size"] == "s"
        output = found["schema"]["properties"]["output"]["properties"]["example"]
        assert set(output["properties"]) == {
            "id", "size", "price", "eaten_at", "toppings", "tags",
        }  # fmt: skip

    def test_the_example_of_a_serializer_is_one_it_would_take(self, client):
        body = declared(client, "/pizza/", "POST")["info"]["input"]["body"]
        assert PizzaSerializer(data=body).is_valid(raise_exception=True)

    def test_lists_and_their_pages(self, client):
        found = declared(client, "/groups/")
        assert set(found["info"]["output"]["example"]) == {"count", "next", "previous", "results"}
        assert found["info"]["output"]["example"]["results"] == [{"id": 1, "name": "text"}]
        assert "queryParams" not in found["info"]["input"]

    @pytest.mark.parametrize("most", [1, 900, 1500])
    def test_a_long_one_goes_without(self, most, client):
        options = {"OPTIONS": {"MAX_BYTES": most}}
        with override_settings(X402={**X402, "EXTENSIONS": {"bazaar": options}}):
            found = declared(client, "/pizza/", "POST")
        assert len(str(found)) < max(most, 700) * 1.2
        assert found["info"]["input"]["method"] == "POST"


class TestCatalogues:
    def test_a_facilitator_learns_of_it_from_us_and_not_from_the_client(self, client):
        payer = Payer()
        required = challenge_of(client, "/weather/")
        offer = required["accepts"][0]
        payload = payer.payload(offer)
        forged = {"info": {"input": {"type": "http", "method": "GET", "queryParams": {"x": "y"}}}}
        payload |= {"extensions": {"bazaar": forged}, "resource": {"url": "https://evil.example/"}}
        answer = client.get("/weather/", headers={"PAYMENT-SIGNATURE": encode(payload)})
        assert answer.status_code == 200
        kept = Payment.objects.get().extensions["bazaar"]
        assert kept == required["extensions"]["bazaar"]
        sent = parse_payment_payload(
            {**payload, "extensions": {"bazaar": kept}, "resource": required["resource"]}
        )
        listed = extract_discovery_info(sent, parse_payment_requirements(2, offer))
        assert listed.resource_url == "https://shop.example/weather/"
        assert listed.method == "GET"

    def test_catalogues_are_told_who_sells(self, client):
        """As a facilitator of the official SDK reads it, from what ours is sent."""
        said = {
            "SERVICE_NAME": "Weather & more",
            "TAGS": ["weather", "Europe"],
            "ICON_URL": "https://shop.example/icon.png",
        }
        assert "serviceName" not in challenge_of(client, "/weather/")["resource"]
        with override_settings(X402={**X402, "EXTENSIONS": {"bazaar": {"OPTIONS": said}}}):
            required = challenge_of(client, "/weather/")
            assert required["resource"] == {
                "url": "https://shop.example/weather/",
                "serviceName": "Weather & more",
                "tags": ["weather", "Europe"],
                "iconUrl": "https://shop.example/icon.png",
            }
            payload = Payer().payload(required["accepts"][0])
            payload |= {"extensions": required["extensions"]}
            payload |= {"resource": {**required["resource"], "serviceName": "Somebody else"}}
            headers = {"PAYMENT-SIGNATURE": encode(payload)}
            assert client.get("/weather/", headers=headers).status_code == 200
            sent = to_sdk_payload(SignedPayment.from_row(Payment.objects.get()))
        listed = extract_discovery_info(sent, sent.accepted)
        assert (listed.service_name, listed.tags, listed.icon_url) == (
            "Weather & more", ["weather", "Europe"], "https://shop.example/icon.png",
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("options", "wrong"),
        [
            ({"SERVICE_NAME": "x" * 33}, "SERVICE_NAME"),
            ({"SERVICE_NAME": ""}, "SERVICE_NAME"),
            ({"SERVICE_NAME": "Wetter für alle"}, "SERVICE_NAME"),
            ({"TAGS": "weather"}, "TAGS"),
            ({"TAGS": ["a", "b", "c", "d", "e", "f"]}, "TAGS"),
            ({"TAGS": ["weather", "Weather"]}, "TAGS"),
            ({"TAGS": ["x" * 33]}, "TAGS"),
            ({"TAGS": [7]}, "TAGS"),
            ({"ICON_URL": "/icon.png"}, "ICON_URL"),
            ({"ICON_URL": "https://127.0.0.1/icon.png"}, "ICON_URL"),
            ({"ICON_URL": "https://[::1]/icon.png"}, "ICON_URL"),
            ({"ICON_URL": "https://2130706433/icon.png"}, "ICON_URL"),
            ({"ICON_URL": "https://localhost/icon.png"}, "ICON_URL"),
            ({"ICON_URL": "https://user:pw@shop.example/icon.png"}, "ICON_URL"),
            ({"ICON_URL": "https://shop.example/" + "x" * 2048}, "ICON_URL"),
            ({"SERVICE_NAME": "Weather", "TAGS": ("a",), "ICON_URL": "http://a.example/i"}, ""),
        ],
    )
    def test_what_they_would_drop_in_silence_is_said(self, options, wrong):
        """And what we let pass they keep: both judge alike."""
        with override_settings(X402={**X402, "EXTENSIONS": {"bazaar": {"OPTIONS": options}}}):
            found = [one for one in run_checks() if one.id == "x402_django.E068"]
            said = service_metadata()
        assert [wrong in one.msg for one in found] == ([True] if wrong else [])
        if not wrong:
            payload = {**Payer().payload(OFFER), "resource": {"url": "https://a.example/", **said}}
            bazaar = declaration("GET", {})
            sent = parse_payment_payload({**payload, "extensions": {"bazaar": bazaar}})
            kept = extract_discovery_info(sent, parse_payment_requirements(2, OFFER))
            found_there = {"serviceName": kept.service_name, "tags": kept.tags}
            assert {**found_there, "iconUrl": kept.icon_url} == said

    def test_nothing_is_kept_of_a_client_that_does_not_ask(self, client, buyer):
        assert buyer.pay("get", "/weather/").status_code == 200
        assert "bazaar" not in Payment.objects.get().extensions


def nothing_happened() -> None:
    assert Payment.objects.count() == 0
    assert not InstantFacilitator.calls
    assert not InstantFacilitator.settled


JSON = {"content_type": "application/json"}


class TestRefusedUnpaid:
    """An empty probe is told the price; who pays for what cannot be used is not charged."""

    @pytest.mark.parametrize("url", ["/order/", "/pizza/", "/own/", "/groups/"])
    def test_an_empty_probe_is_told_the_price(self, url, client):
        challenge_of(client, url, "POST")
        challenge_of(client, url, "POST", data=b"\xff{", content_type="application/json")
        assert not runs

    @pytest.mark.parametrize(
        ("url", "wrong", "status"),
        [
            ("/pizza/", {"size": "xl"}, 400),
            ("/pizza/", b"{", 400),
            ("/own/", {}, 400),
            ("/groups/", {"name": ""}, 400),
        ],
    )
    def test_of_rest_framework(self, url, wrong, status, client, payer):
        headers = payer.headers_for(client.post(url, wrong, **JSON))
        answer = client.post(url, wrong, **JSON, headers=headers)
        assert answer.status_code == status
        assert "PAYMENT-RESPONSE" not in answer
        nothing_happened()
        assert not runs

    def test_the_same_payment_is_good_for_a_better_request(self, client, payer):
        headers = payer.headers_for(client.post("/own/", {}, **JSON))
        assert client.post("/own/", {}, **JSON, headers=headers).status_code == 400
        answer = client.post("/own/", {"answer": 42}, **JSON, headers=headers)
        assert (answer.status_code, answer.json()) == (200, {"right": True})
        assert runs["own"] == 1

    def test_what_was_created_does_not_stand_in_the_way_of_its_own_answer(self, client, payer):
        sent = {"name": "unique"}
        headers = payer.headers_for(client.post("/groups/", sent, **JSON))
        first = client.post("/groups/", sent, **JSON, headers=headers)
        assert first.status_code == 201
        again = client.post("/groups/", sent, **JSON, headers=headers)
        assert (again.status_code, again.content) == (201, first.content)
        # Somebody else's is refused, unpaid.
        other = Payer().headers_for(client.post("/groups/", sent, **JSON))
        assert client.post("/groups/", sent, **JSON, headers=other).status_code == 400
        assert (Payment.objects.count(), Group.objects.count()) == (1, 1)

    @pytest.mark.parametrize(
        ("wrong", "status", "code"),
        [({}, 400, "invalid_request"), ({"order": "sold out"}, 410, "")],
    )
    @pytest.mark.parametrize("version", [1, 2])
    def test_of_a_function(self, version, wrong, status, code, client, payer):
        headers = payer.headers_for(client.post("/order/", wrong), version=version)
        assert not runs
        answer = client.post("/order/", wrong, headers=headers)
        assert answer.status_code == status
        assert not code or answer.json() == {"error": code, "message": "Say what you order."}
        assert "no-store" in answer["Cache-Control"] or "private" in answer["Cache-Control"]
        nothing_happened()
        assert runs == {"check_order": 1}

    def test_what_is_paid_for_is_delivered_whatever_the_view_thinks_by_then(self, client, payer):
        sent = {"order": "flaky"}
        client.raise_request_exception = False
        headers = payer.headers_for(client.post("/order/", sent))
        assert client.post("/order/", sent, headers=headers).status_code == 500
        assert Payment.objects.get().is_paid
        runs["sold out"] = 1
        answer = client.post("/order/", sent, headers=headers)
        assert (answer.status_code, answer.content) == (200, b"ordered flaky")
        assert client.post("/order/", sent, headers=headers).content == b"ordered flaky"
        assert runs["order"] == 2

    def test_a_check_never_gives_content_away(self, client, payer, caplog):
        headers = payer.headers_for(client.post("/order/", {"order": "free"}))
        answer = client.post("/order/", {"order": "free"}, headers=headers)
        assert answer.status_code == 503
        assert b"lunch" not in answer.content
        nothing_happened()
