"""A notice leads to the chain, and the chain decides."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from tests.chain.fixtures import chain
from tests.chain.support import sign, store
from tests.settings import PAY_TO
from tests.webhooks.test_chain_webhooks import SECRET, WEBHOOKS, activity, alchemy
from x402_django import clock
from x402_django.exceptions import SettlementUnknown
from x402_django.facilitators.base import BaseFacilitator
from x402_django.models import Payment
from x402_django.testing.chain import new_payer
from x402_django.testing.submission import submit_authorization

__all__ = ["chain"]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _site(chain: Any, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.X402 = {**settings.X402, "CHAIN_WEBHOOKS": WEBHOOKS}
    monkeypatch.setenv("ALCHEMY_SIGNING_KEY", SECRET)
    from celery import current_app

    # As a worker would run it.
    def run(name: str, args: Any, **options: Any) -> None:
        current_app.tasks[name].apply(args=args, throw=True)

    monkeypatch.setattr(current_app, "send_task", run)


class Silent(BaseFacilitator):
    """Settles nothing, and does not say so."""

    def settle(self, signed: Any, payment: Any) -> Any:
        raise SettlementUnknown()


SILENT = {"default": {"BACKEND": "tests.webhooks.test_on_chain.Silent"}}


def tell(transaction: str, payment: Payment) -> None:
    parties = {"fromAddress": payment.payer, "toAddress": payment.pay_to}
    name, body, headers = alchemy(activity(transaction, **parties))
    answer = Client().post(
        f"/x402/webhooks/{name}/", body, content_type="application/json", headers=headers
    )
    assert answer.status_code == 200


def unknown(chain: Any) -> tuple[Payment, Any]:
    """A payment of unknown outcome, and the body of a request that would settle it."""
    signed = sign(new_payer(chain, 1))
    payment = store(signed)
    payment.state, payment.outcome_unknown_at = "settling", clock.now()
    payment.save()
    body = {
        "paymentPayload": {"payload": signed.payload_dict()},
        "paymentRequirements": signed.offer.as_v2(),
    }
    return payment, body


def test_money_that_arrived_is_found_at_once(chain: Any) -> None:
    from web3 import Web3

    payment, body = unknown(chain)
    transaction = submit_authorization(Web3(chain.provider()), body)

    tell(transaction, payment)

    payment.refresh_from_db()
    assert (payment.state, payment.transaction) == ("settled", transaction)
    assert chain.dollars(PAY_TO) == payment.amount


def test_a_notice_of_money_that_never_moved_books_nothing(chain: Any, settings: Any) -> None:
    """Signed with the right secret: the chain decides all the same."""
    payment, _body = unknown(chain)
    settings.X402 = {**settings.X402, "FACILITATORS": SILENT}

    tell("0x" + "ab" * 32, payment)

    payment.refresh_from_db()
    assert payment.state == "settling"
    assert payment.transaction == ""
    assert chain.dollars(PAY_TO) == 0
