"""``Uint256Field`` and ``ExactSum``: exact on every database."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.db import DatabaseError, OperationalError, connection, transaction
from django.db.models import Max, Min, Sum
from django.forms import modelform_factory
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.payments.support import stored
from x402_django.models import ExactSum, Payment, PriceRule, Uint256Field

pytestmark = pytest.mark.django_db

MAX = 2**256 - 1
EDGES = [
    0,
    1,
    9,
    10,
    2**53 - 1,
    2**53,
    2**53 + 1,
    2**63 - 1,
    2**63,
    10**77,
    10**78 // 9,
    MAX - 1,
    MAX,
]


@pytest.mark.parametrize("value", EDGES)
def test_every_value_comes_back_as_the_same_int(value):
    payment = stored(amount=value)

    read = Payment.objects.get(pk=payment.pk).amount

    assert (read, type(read)) == (value, int)
    assert Payment.objects.filter(amount=value).count() == 1


@hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(values=st.lists(st.integers(0, MAX), min_size=1, max_size=6))
def test_order_comparison_and_sum_are_those_of_integers(values):
    Payment.objects.all().delete()
    for value in values:
        stored(amount=value)
    rows = Payment.objects.all()

    assert list(rows.order_by("amount").values_list("amount", flat=True)) == sorted(values)
    pivot = values[0]
    for lookup, expected in {
        "gt": [v for v in values if v > pivot],
        "gte": [v for v in values if v >= pivot],
        "lt": [v for v in values if v < pivot],
        "lte": [v for v in values if v <= pivot],
        "exact": [v for v in values if v == pivot],
        "in": [v for v in values if v in (pivot, 7)],
    }.items():
        wanted = [pivot, 7] if lookup == "in" else pivot
        found = rows.filter(**{f"amount__{lookup}": wanted}).values_list("amount", flat=True)
        assert sorted(found) == sorted(expected), lookup
    assert rows.filter(amount__range=(pivot, MAX)).count() == sum(v >= pivot for v in values)
    assert rows.aggregate(total=ExactSum("amount"))["total"] == sum(values)
    assert rows.aggregate(low=Min("amount"), high=Max("amount")) == {
        "low": min(values),
        "high": max(values),
    }


def test_a_sum_may_exceed_uint256():
    for _ in range(3):
        stored(amount=MAX)

    assert Payment.objects.aggregate(total=ExactSum("amount"))["total"] == 3 * MAX


def test_a_sum_by_group_is_exact():
    for payer, amount in (("0xa", MAX), ("0xa", 1), ("0xb", 2**53 + 1)):
        stored(amount=amount, payer=payer)

    sums = Payment.objects.order_by().values("payer").annotate(total=ExactSum("amount"))

    assert {row["payer"]: row["total"] for row in sums} == {"0xa": MAX + 1, "0xb": 2**53 + 1}


def test_a_sum_of_nothing_or_of_nulls_is_none():
    assert Payment.objects.aggregate(total=ExactSum("amount"))["total"] is None
    PriceRule.objects.create(name="dollars", price_usd=1)
    assert PriceRule.objects.aggregate(total=ExactSum("token_amount"))["total"] is None


def test_nulls_are_left_out_of_a_sum():
    PriceRule.objects.create(name="dollars", price_usd=1)
    PriceRule.objects.create(name="units", token_amount=5)

    assert PriceRule.objects.aggregate(total=ExactSum("token_amount"))["total"] == 5
    assert PriceRule.objects.filter(token_amount__isnull=True).get().name == "dollars"


def test_a_filtered_sum_counts_only_what_was_asked_for():
    from django.db.models import Q

    stored(amount=5, payer="0xa")
    stored(amount=7, payer="0xb")

    total = Payment.objects.aggregate(total=ExactSum("amount", filter=Q(payer="0xb")))["total"]

    assert total == 7


@pytest.mark.parametrize("amounts", [(2**53, 1), (2**62, 2**62), (2**64, 1), (MAX, MAX)])
def test_djangos_sum_is_exact_or_raises(amounts):
    for amount in amounts:
        stored(amount=amount)

    def total():
        return Payment.objects.aggregate(total=Sum("amount"))["total"]

    if connection.vendor == "sqlite" and sum(amounts) >= 2**63:
        with pytest.raises((TypeError, OperationalError), match=r"ExactSum|overflow"):
            total()
    else:
        assert total() == sum(amounts)


@pytest.mark.parametrize(
    "value", [-1, MAX + 1, 1.5, Decimal("1.5"), "1.5", "abc", True, b"1", "1e3"]
)
def test_what_is_no_uint256_is_never_written(value):
    with pytest.raises((ValidationError, TypeError, ValueError)), transaction.atomic():
        stored(amount=value)
    assert Payment.objects.count() == 0


@pytest.mark.parametrize("value", [-1, MAX + 1])
def test_out_of_range_lookups_are_refused_rather_than_wrong(value):
    with pytest.raises(ValidationError):
        Payment.objects.filter(amount=value).exists()


@pytest.mark.parametrize(
    ("value", "expected"), [(5, 5), ("5", 5), (Decimal("5"), 5), (None, None), (str(MAX), MAX)]
)
def test_conversion(value, expected):
    assert Uint256Field(null=True, blank=True).clean(value, None) == expected


@pytest.mark.parametrize("value", ["x", "1.0", 1.0, Decimal("0.5"), True, [], -1, MAX + 1, "-1"])
def test_validation(value):
    with pytest.raises(ValidationError):
        Uint256Field().clean(value, None)


@pytest.mark.parametrize("value", [1, 2**53 + 1, MAX])
def test_a_form_shows_and_takes_back_every_digit(value):
    rule = PriceRule.objects.create(name="units", token_amount=value)
    form_class = modelform_factory(PriceRule, fields=["token_amount"])
    shown = form_class(instance=rule)["token_amount"]
    assert str(shown.value()) == str(value)
    assert f'value="{value}"' in str(shown)

    bound = form_class({"token_amount": str(value)}, instance=rule)

    assert bound.is_valid(), bound.errors
    assert not bound.has_changed()
    bound.save()
    assert PriceRule.objects.get().token_amount == value


@pytest.mark.parametrize("text", ["-1", str(MAX + 1), "1.5", "1e5", "x"])
def test_a_form_refuses_what_is_no_uint256(text):
    form = modelform_factory(PriceRule, fields=["token_amount"])({"token_amount": text})

    assert not form.is_valid()
    assert list(form.errors) == ["token_amount"]


def test_the_database_itself_refuses_a_number_it_could_not_order():
    payment = stored(amount=5)
    bad = "'5'" if connection.vendor == "sqlite" else "-1"
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"UPDATE x402_django_payment SET amount = {bad}")
    payment.refresh_from_db()
    assert payment.amount == 5


def test_serialisation_round_trip():
    from django.core import serializers

    PriceRule.objects.create(name="units", token_amount=MAX)
    text = serializers.serialize("json", PriceRule.objects.all())
    PriceRule.objects.all().delete()

    for item in serializers.deserialize("json", text):
        item.save()

    assert PriceRule.objects.get().token_amount == MAX
