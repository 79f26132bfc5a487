"""A web3 provider over a ``DevChain`` in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from web3.providers.base import JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from .rpc import handle_bytes

if TYPE_CHECKING:
    from .chain import DevChain


class DevChainProvider(JSONBaseProvider):
    """Requests and answers go through JSON, so that they are what HTTP would carry.

    ``find_chain`` is asked at each request which chain is meant.
    """

    def __init__(self, find_chain: Callable[[], DevChain]) -> None:
        super().__init__()
        self._find_chain = find_chain

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """One request."""
        return self.decode_rpc_response(
            handle_bytes(self._find_chain(), self.encode_rpc_request(method, params))
        )

    def make_batch_request(
        self, requests: list[tuple[RPCEndpoint, Any]]
    ) -> list[RPCResponse] | RPCResponse:
        """Several requests, answered in order."""
        answer = handle_bytes(self._find_chain(), self.encode_batch_rpc_request(requests))
        return cast("list[RPCResponse]", self.decode_rpc_response(answer))
