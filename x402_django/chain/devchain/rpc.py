"""JSON-RPC 2.0 over a ``DevChain``: one request, or a batch."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from . import rpc_dev, rpc_eth
from .encoding import Json
from .errors import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    RpcError,
)
from .methods import Method

if TYPE_CHECKING:
    from .chain import DevChain

logger = logging.getLogger(__name__)

METHODS: dict[str, Method] = {**rpc_eth.METHODS, **rpc_dev.METHODS}


def handle_bytes(chain: DevChain, body: bytes) -> bytes:
    """Answer an encoded request. Never raises."""
    try:
        request = json.loads(body)
    except ValueError:
        return json.dumps(_failure(None, RpcError(PARSE_ERROR, "parse error"))).encode()
    return json.dumps(handle(chain, request)).encode()


def handle(chain: DevChain, request: Any) -> Any:
    """Answer a decoded request or batch. Never raises."""
    if isinstance(request, list):
        if not request:
            return _failure(None, RpcError(INVALID_REQUEST, "empty batch"))
        return [_handle_one(chain, one) for one in request]
    return _handle_one(chain, request)


def _handle_one(chain: DevChain, request: Any) -> Json:
    if not isinstance(request, dict) or not isinstance(request.get("method"), str):
        return _failure(None, RpcError(INVALID_REQUEST, "invalid request"))
    identifier = request.get("id")
    try:
        result = _call(chain, request["method"], request.get("params") or [])
    except RpcError as error:
        return _failure(identifier, error)
    except Exception:
        # A bug of ours must not take the server down, nor tell strangers about this process.
        logger.exception("development chain failed in %s", request["method"])
        return _failure(identifier, RpcError(INTERNAL_ERROR, "internal error"))
    return {"jsonrpc": "2.0", "id": identifier, "result": result}


def _call(chain: DevChain, name: str, params: Any) -> Any:
    method = METHODS.get(name)
    if method is None:
        raise RpcError(METHOD_NOT_FOUND, f"the method {name} does not exist/is not available")
    if not isinstance(params, list | tuple):
        raise RpcError(INVALID_PARAMS, "non-array args")
    if len(params) < method.required:
        raise RpcError(INVALID_PARAMS, f"missing value for required argument {len(params)}")
    if len(params) > method.allowed:
        raise RpcError(INVALID_PARAMS, f"too many arguments, want at most {method.allowed}")
    with chain.lock:
        chain.catch_up()
        return method.function(chain, *params)


def _failure(identifier: Any, error: RpcError) -> Json:
    return {"jsonrpc": "2.0", "id": identifier, "error": error.as_dict()}
