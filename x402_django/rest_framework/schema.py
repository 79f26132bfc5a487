"""The 402 in the OpenAPI schema, for sites that use drf-spectacular.

Importing this module registers an extension, and the package imports it where drf-spectacular is
installed: nothing is to be configured. An operation whose permissions contain ``HasPaid``, whose
view is decorated, or which a rule prices, gets a 402 response with an example, its price
(``x-payment-info``), the request headers that pay and the response headers that say what became
of it.

A site with its own ``OpenApiViewExtension`` for a sold view keeps its own; it can name
``PaymentAutoSchema`` (in DRF's ``DEFAULT_SCHEMA_CLASS`` or a view's ``schema``) instead.
"""

from __future__ import annotations

from copy import deepcopy
from functools import wraps
from typing import Any, TypeGuard

from drf_spectacular.extensions import OpenApiViewExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent, get_class

from x402_django.conf import x402
from x402_django.http.asking import ASKS_ATTRIBUTE, asks_itself
from x402_django.http.catalogue import class_options, find_resource, paid_resources, terms_of
from x402_django.http.openapi import CHALLENGE, COMPONENT, describe_payment
from x402_django.rest_framework.hypotheses import contains
from x402_django.rest_framework.permissions import HasPaid


class PaymentSchemaMixin:
    """For an ``AutoSchema``: describes the payment of operations that ``HasPaid`` guards."""

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation: dict[str, Any] | None = super().get_operation(  # type: ignore[misc]
            *args, **kwargs
        )
        if operation is None:
            return None
        view, method = self.view, self.method  # type: ignore[attr-defined]
        resource = find_resource(self.path, method)  # type: ignore[attr-defined]
        terms = resource.terms if resource else terms_of(class_options(type(view), {}), "", method)
        if _asks(view) or (resource is not None and not asks_itself(resource.route.view)):
            url = (x402.base_url or "") + self.path  # type: ignore[attr-defined]
            describe_payment(operation, _challenge_reference(self), terms, url)
        return operation


class PaymentAutoSchema(PaymentSchemaMixin, AutoSchema):
    """drf-spectacular's AutoSchema with the mixin, to be named in settings."""


class _Sellable(type):
    """The views worth a look: an operation's own permissions decide in the end."""

    def __subclasscheck__(cls, view: type) -> bool:
        names = (ASKS_ATTRIBUTE, "price", "price_rule", "get_price")
        return (
            any(hasattr(view, name) for name in names)
            or any(
                getattr(permission, ASKS_ATTRIBUTE, False) or hasattr(permission, "op1_class")
                for permission in getattr(view, "permission_classes", ())
            )
            or any(view is getattr(one.route.view, "cls", None) for one in paid_resources())
        )


class SellableView(metaclass=_Sellable):
    """``issubclass(view, SellableView)``: whether the view may have something to sell."""


class SoldViewExtension(OpenApiViewExtension):  # type: ignore[no-untyped-call]
    """Gives sold views a schema that knows of payments."""

    target_class = SellableView
    match_subclasses = True
    priority = -1

    def view_replacement(self) -> Any:
        view_class = self.target
        attributes: dict[str, Any] = {
            name: _with_payment(handler)
            for name in dir(view_class)
            if _has_own_schema(handler := getattr(view_class, name, None))
        }
        if isinstance(view_class.schema, AutoSchema):
            attributes["schema"] = _paying_schema(get_class(view_class.schema))()
        attributes |= {"__doc__": view_class.__doc__, "__module__": view_class.__module__}
        return type(view_class.__name__, (view_class,), attributes)


def _has_own_schema(handler: Any) -> TypeGuard[Any]:
    """Whether ``@extend_schema`` has put a schema on this method of a view."""
    kwargs = getattr(handler, "kwargs", None)
    return callable(handler) and isinstance(kwargs, dict) and bool(kwargs.get("schema"))


def _with_payment(handler: Any) -> Any:
    @wraps(handler)
    def same(*args: Any, **kwargs: Any) -> Any:
        return handler(*args, **kwargs)

    same.kwargs = {  # type: ignore[attr-defined]
        **handler.kwargs,
        "schema": _paying_schema(get_class(handler.kwargs["schema"])),
    }
    return same


def _paying_schema(schema_class: type) -> type:
    if issubclass(schema_class, PaymentSchemaMixin):
        return schema_class
    return type(schema_class.__name__, (PaymentSchemaMixin, schema_class), {})


def _asks(view: Any) -> bool:
    """Whether the permissions of this operation contain ``HasPaid``."""
    return any(contains(permission, HasPaid) for permission in view.get_permissions())


def _challenge_reference(schema: Any) -> dict[str, Any]:
    component = ResolvedComponent(  # type: ignore[no-untyped-call]
        name=COMPONENT,
        type=ResolvedComponent.SCHEMA,
        schema=deepcopy(CHALLENGE),  # drf-spectacular's hooks edit what they are given
        object=HasPaid,
    )
    schema.registry.register_on_missing(component)
    reference: dict[str, Any] = component.ref
    return reference
