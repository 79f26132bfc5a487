"""Several questions to a node in one request, answered as plain JSON.

For what reads much or is asked for every payment: web3's formatters would cost more than all
else that is done with the answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from web3.providers.base import JSONBaseProvider
from web3.types import RPCEndpoint

from x402_django.chain.rpc import get_web3, rpc_errors
from x402_django.exceptions import RpcUnavailable

Question = tuple[str, list[Any]]


class RpcRefused(RpcUnavailable):
    """The node is there and answered with an error, such as "too many logs".

    ``reason`` is in the node's words: not for answers.
    """

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


def ask(network: str, questions: Sequence[Question]) -> list[Any]:
    """The results, in the order of ``questions``, of one JSON-RPC batch.

    A node that knows no batches is asked one by one. Nothing is retried.

    Raises:
        RpcRefused: the node answered one of the questions with an error.
        RpcUnavailable: it did not answer, or what it said is no JSON-RPC.
    """
    answers = ask_each(network, questions)
    for answer in answers:
        if isinstance(answer, RpcRefused):
            raise answer
    return answers


def ask_each(network: str, questions: Sequence[Question]) -> list[Any]:
    """As ``ask``, with an RpcRefused in the place of each result that the node refused."""
    provider = cast(JSONBaseProvider, get_web3(network).provider)
    requests = [(RPCEndpoint(method), params) for method, params in questions]
    with rpc_errors(network):
        answers: Any = None
        if len(requests) > 1:
            try:
                answers = provider.make_batch_request(requests)
            except NotImplementedError:
                answers = None
        if not isinstance(answers, list):
            answers = [provider.make_request(method, params) for method, params in requests]
        return [_result(network, answer) for answer in _in_order(network, answers, len(requests))]


def _in_order(network: str, answers: list[Any], count: int) -> list[dict[str, Any]]:
    """Answers of a batch may come in any order; their ids rise with the questions'."""
    if len(answers) != count or not all(isinstance(answer, dict) for answer in answers):
        raise RpcUnavailable(f"The RPC endpoint of {network} left questions of a batch unanswered.")
    ids = {answer.get("id") for answer in answers}
    if len(ids) == count and all(isinstance(one, int) for one in ids):
        return sorted(answers, key=lambda answer: answer["id"])
    return answers


def _result(network: str, answer: dict[str, Any]) -> Any:
    error = answer.get("error")
    if error is not None:
        code = error.get("code") if isinstance(error, dict) else None
        reason = str(error.get("message", "")) if isinstance(error, dict) else ""
        return RpcRefused(f"The RPC endpoint of {network} refused (code {code}).", reason=reason)
    return answer.get("result")
