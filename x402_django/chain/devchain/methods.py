"""How JSON-RPC methods are registered."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Method:
    """A function of a chain and positional parameters, the chain not counted in the numbers."""

    function: Callable[..., Any]
    required: int
    allowed: int


class MethodTable(dict[str, Method]):
    """Methods by their JSON-RPC names."""

    def method(self, name: str) -> Callable[[F], F]:
        """Register the decorated function as ``name``."""

        def register(function: F) -> F:
            parameters = list(inspect.signature(function).parameters.values())[1:]
            required = sum(parameter.default is parameter.empty for parameter in parameters)
            self[name] = Method(function, required, len(parameters))
            return function

        return register
