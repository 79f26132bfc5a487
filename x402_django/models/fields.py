"""Columns of our own: an exact ``uint256`` on every database, and who keeps a payer's nonces.

PostgreSQL has ``numeric(78, 0)``: exact, ordered, summed exactly. SQLite has no such type (its
``decimal`` is a float beyond 2**53), so there the number is stored as 78 digits of text, left
padded with zeros: exact, and ordered by plain string comparison. Summing goes through
``ExactSum``, which on SQLite is an aggregate of ours; ``Sum`` would fall into floating point
there, so a float coming out of the database raises instead of lying.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django import forms
from django.core import exceptions
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db.models import Aggregate, CharField, Field
from django.utils.translation import gettext_lazy as _

from x402_django.constants import UINT256_MAX

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import Model
    from django.db.models.sql.compiler import SQLCompiler

#: Decimal digits of 2**256 - 1.
DIGITS = 78


class Uint256Field(Field):  # type: ignore[type-arg]
    """A non-negative integer below 2**256; an ``int`` in Python, always."""

    description = _("Unsigned 256-bit integer")
    empty_strings_allowed = False
    default_error_messages = {
        "invalid": _("“%(value)s” must be a whole number."),
        "range": _("“%(value)s” is outside the range of a uint256."),
    }
    default_validators = [MinValueValidator(0), MaxValueValidator(UINT256_MAX)]

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        if connection.vendor == "postgresql":
            return f"numeric({DIGITS}, 0)"
        return f"varchar({DIGITS})"

    def db_check(self, connection: BaseDatabaseWrapper) -> str | None:
        column = connection.ops.quote_name(str(self.column))
        if connection.vendor == "postgresql":
            return f"{column} >= 0 AND {column} <= {UINT256_MAX}"
        return f"length({column}) = {DIGITS}"

    def get_internal_type(self) -> str:
        return "Uint256Field"

    def to_python(self, value: Any) -> int | None:
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        try:
            if isinstance(value, str) or (
                isinstance(value, Decimal) and value == value.to_integral_value()
            ):
                number = int(value)
            else:
                raise ValueError(value)
        except ValueError:
            raise exceptions.ValidationError(
                self.error_messages["invalid"], code="invalid", params={"value": value}
            ) from None
        return number

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        if value is None or hasattr(value, "resolve_expression"):
            return value
        number = self.to_python(value)
        if number is None or not 0 <= number <= UINT256_MAX:
            raise exceptions.ValidationError(
                self.error_messages["range"], code="range", params={"value": value}
            )
        return number

    def get_db_prep_value(
        self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False
    ) -> Any:
        number = value if prepared else self.get_prep_value(value)
        if number is None or hasattr(number, "resolve_expression"):
            return number
        if connection.vendor == "postgresql":
            return Decimal(number)
        return str(number).zfill(DIGITS)

    def from_db_value(
        self, value: Any, expression: object, connection: BaseDatabaseWrapper
    ) -> int | None:
        if value is None:
            return None
        if isinstance(value, float):
            raise TypeError(
                "A uint256 column came back as a float, so the value is not exact. "
                "Use x402_django.models.ExactSum instead of Sum."
            )
        return int(value)

    def value_to_string(self, obj: Any) -> str:
        value = self.value_from_object(obj)
        return "" if value is None else str(value)

    def formfield(self, **kwargs: Any) -> forms.Field | None:
        return super().formfield(
            **{
                "form_class": forms.IntegerField,
                "min_value": 0,
                "max_value": UINT256_MAX,
                "widget": forms.TextInput(attrs={"inputmode": "numeric"}),
                **kwargs,
            }
        )


class ExactSum(Aggregate):
    """``SUM`` over a ``Uint256Field`` without rounding; ``None`` over no rows."""

    function = "SUM"
    name = "ExactSum"
    output_field = Uint256Field()
    allow_distinct = False

    def as_sqlite(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any
    ) -> tuple[str, Any]:
        return super().as_sql(compiler, connection, function="X402_EXACT_SUM", **context)


class _ExactSumAggregate:
    """The Python side of ``X402_EXACT_SUM`` on SQLite."""

    def __init__(self) -> None:
        self.total: int | None = None

    def step(self, value: str | int | None) -> None:
        if value is not None:
            self.total = (self.total or 0) + int(value)

    def finalize(self) -> str | None:
        return None if self.total is None else str(self.total)


class _PaddedSumAggregate(_ExactSumAggregate):
    """``X402_PADDED_SUM``: the same in the form of the column, to be compared in SQL."""

    def finalize(self) -> str | None:
        return None if self.total is None else str(self.total).zfill(DIGITS)


def register_sqlite_functions(*, connection: BaseDatabaseWrapper, **kwargs: object) -> None:
    """Receiver of ``connection_created``: give SQLite the aggregate that ``ExactSum`` calls."""
    if connection.vendor == "sqlite":
        connection.connection.create_aggregate("X402_EXACT_SUM", 1, _ExactSumAggregate)
        connection.connection.create_aggregate("X402_PADDED_SUM", 1, _PaddedSumAggregate)


class VerifyingContractField(CharField):  # type: ignore[type-arg]
    """The contract in whose EIP-712 domain a payment was signed; by default its ``asset``.

    A token verifies its own authorizations (EIP-3009). Whatever moves money in another way names
    the contract that keeps its nonces.
    """

    def pre_save(self, model_instance: Model, add: bool) -> Any:
        value = super().pre_save(model_instance, add)
        if not value:
            value = model_instance.asset  # type: ignore[attr-defined]
            setattr(model_instance, self.attname, value)
        return value
