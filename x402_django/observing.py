"""What this process is doing, for whoever watches it: spans, and the payment in log records.

``observed`` stands around each step of a payment. It puts the payment's id into every log record
of that step (``PaymentFilter``, ``JsonFormatter``), and, where the API of OpenTelemetry is
installed (the extra ``otel``), the step into a span. Signatures, payers and amounts are in neither.

Spans: ``x402.verify``, ``x402.settle``, ``x402.resolve``, ``x402.scan``, ``x402.facilitator``,
``x402.rpc``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Protocol

_payment: ContextVar[str] = ContextVar("x402_payment", default="")

#: What every log record has; the rest was given as ``extra``.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class ObservedPayment(Protocol):
    """What is told of a payment (``models.Payment``, which this module does not import)."""

    public_id: str
    network: str
    scheme: str
    flow: str


@contextmanager
def observed(
    step: str, payment: ObservedPayment | None = None, **attributes: str | int | bool
) -> Iterator[None]:
    """Around ``step`` (without its ``x402.``), of ``payment`` if it is one payment's.

    What the block raises passes through, and marks the span as failed by the exception's class:
    its text may hold what nobody should read.
    """
    if payment is not None:
        attributes = {
            "payment": payment.public_id,
            "network": payment.network,
            "scheme": payment.scheme,
            "flow": payment.flow,
            **attributes,
        }
    token = _payment.set(payment.public_id) if payment is not None else None
    try:
        with _span(step, attributes) as span:
            try:
                yield
            except Exception as error:
                if span is not None:
                    _fail(span, error)
                raise
    finally:
        if token is not None:
            _payment.reset(token)


class PaymentFilter(logging.Filter):
    """Gives each log record the id of the payment at hand as ``payment``; empty if there is none.

    A record that names one by itself (``extra={"payment": …}``) keeps it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "payment"):
            record.payment = _payment.get()
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (UTC), level, logger, message, payment, and extras."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        payment = getattr(record, "payment", "") or _payment.get()
        if payment:
            line["payment"] = payment
        for name, value in vars(record).items():
            if (
                value != ""
                and name not in _STANDARD | line.keys()
                and isinstance(value, str | int | float)
            ):
                line[name] = value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _span(step: str, attributes: dict[str, Any]) -> AbstractContextManager[Any]:
    tracer = _tracer()
    if tracer is None:
        return nullcontext()
    span: AbstractContextManager[Any] = tracer.start_as_current_span(
        f"x402.{step}",
        attributes={f"x402.{name}": value for name, value in attributes.items()},
        record_exception=False,
        set_status_on_exception=False,
    )
    return span


def _fail(span: Any, error: Exception) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_status(Status(StatusCode.ERROR, type(error).__name__))
    code = getattr(error, "code", None)
    if isinstance(code, str):
        span.set_attribute("x402.code", code)


@lru_cache(maxsize=1)
def _tracer() -> Any:
    """OpenTelemetry's tracer; None where its API is not installed."""
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    return trace.get_tracer("x402_django")
