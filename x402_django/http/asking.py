"""Views that ask for payment themselves, by a permission of REST framework's."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

#: On a DRF permission or view class: the view asks for payment itself, if its permissions say so.
ASKS_ATTRIBUTE: Final = "x402_asks"


@lru_cache(maxsize=4096)
def asks_itself(view: Callable[..., Any]) -> bool:
    """Whether a DRF view's permissions contain one that asks for payment (``HasPaid``)."""
    view_class = getattr(view, "cls", None)
    if getattr(view_class, ASKS_ATTRIBUTE, False):
        return True
    permissions: Any = getattr(view, "initkwargs", {}).get("permission_classes")
    if permissions is None:
        permissions = getattr(view_class, "permission_classes", ())
    return any(_mentions_asking(permission) for permission in permissions)


def _mentions_asking(permission: Any) -> bool:
    if getattr(permission, ASKS_ATTRIBUTE, False):
        return True
    operands = (getattr(permission, name, None) for name in ("op1_class", "op2_class"))
    return any(_mentions_asking(operand) for operand in operands if operand is not None)
