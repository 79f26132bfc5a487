"""Who asks: authentication by name, and a permission that looks at objects."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.http import Http404
from rest_framework.authentication import TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission


class NameToken(TokenAuthentication):
    """``Authorization: Token <username>``."""

    def authenticate_credentials(self, key: str) -> tuple[Any, str]:
        user = User.objects.filter(username=key).first()
        if user is None:
            raise AuthenticationFailed("No such token.")
        return user, key


class IsOwner(BasePermission):
    """The objects of these tests are users, who own themselves."""

    def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool:
        return bool(obj == request.user)


class Closed(BasePermission):
    message = "Closed on Sundays."
    code = "closed"

    def has_permission(self, request: Any, view: Any) -> bool:
        return False


class Hidden(BasePermission):
    """Refuses by pretending that there is nothing."""

    def has_permission(self, request: Any, view: Any) -> bool:
        raise Http404


def token(name: str | None) -> dict[str, str]:
    return {"Authorization": f"Token {name}"} if name else {}
