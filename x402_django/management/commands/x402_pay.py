"""Buy something over x402 from the command line, for tests and scripts."""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from django.core.management.base import BaseCommand, CommandError

from x402_django.exceptions import ConfigurationError, MalformedPayment
from x402_django.management.offers import Wish, as_json, as_table, price_of
from x402_django.management.purchase import Bought, OutcomeUnknown, Record, WantedRequest, pay
from x402_django.protocol.networks import display_name

if TYPE_CHECKING:
    import httpx
    from eth_account.signers.local import LocalAccount

#: Exit statuses; 1 is anything else that went wrong, before a payment was sent.
NOTHING_TO_PAY_WITH: Final = 3
REFUSED: Final = 4
UNKNOWN: Final = 5
ERROR_ANSWER: Final = 6

DEFAULT_LIMIT: Final = Decimal("0.10")
DEFAULT_KEY_ENV: Final = "X402_PAYER_KEY"


class Command(BaseCommand):
    """``manage.py x402_pay https://shop.example/weather/ --max 0.05``"""

    help = (
        "Request URL, pay what it asks for if that is within the limit, and print what was bought. "
        "One payment is signed; it is sent again after a lost answer, never a second one. "
        "Exit status: 0 bought, free or dry run; 3 no offer within the limit; 4 the payment was "
        "refused; 5 not known whether it was charged; 6 the seller answered with an error; 1 else."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("url")
        parser.add_argument(
            "-X", "--method", help="HTTP method. Default: GET, or POST with a body."
        )
        parser.add_argument("-d", "--data", help="The body; @FILE reads it from a file.")
        parser.add_argument(
            "-H", "--header", action="append", default=[], type=_header, help="'Name: value'."
        )
        limit = parser.add_argument_group("what may be paid")
        limit.add_argument(
            "--max",
            type=_amount,
            default=DEFAULT_LIMIT,
            help=f"The most to pay, in units of a known dollar token. Default: {DEFAULT_LIMIT}.",
        )
        limit.add_argument(
            "--max-atomic",
            type=_whole,
            help="The most to pay in a token that is not known here, in its smallest unit; needs "
            "--asset with its address.",
        )
        limit.add_argument("--network", help="Pay on this network alone: eip155:8453, or base.")
        limit.add_argument("--asset", help="Pay in this token alone: its symbol or address.")
        limit.add_argument("--dry-run", action="store_true", help="Show the offers; pay nothing.")
        key = parser.add_argument_group("who pays")
        key.add_argument("--key-env", help=f"Variable with the key. Default: {DEFAULT_KEY_ENV}.")
        key.add_argument("--keystore", help="Encrypted keystore file, instead.")
        key.add_argument("--keystore-password-env", help="Variable with its password.")
        key.add_argument("--keystore-password-file", help="File with its password.")
        parser.add_argument(
            "--receipt",
            type=Path,
            help="Record the purchase in this JSON file; go "
            "on with it if it records one whose outcome is open.",
        )
        parser.add_argument("-o", "--output", type=Path, help="Write what was bought here.")
        parser.add_argument(
            "--tries", type=_whole, default=10, help="Sendings at most. Default: 10."
        )
        parser.add_argument(
            "--timeout", type=float, default=60.0, help="Seconds to wait. Default: 60."
        )
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")

    def handle(self, *args: Any, **options: Any) -> None:
        import httpx

        self._options = options
        wanted = _wanted(options)
        with httpx.Client(timeout=options["timeout"], follow_redirects=False) as client:
            try:
                record = self._open_record(client, wanted)
                if record is not None:
                    self._buy(client, wanted, record)
            except (ConfigurationError, MalformedPayment) as error:
                raise CommandError(str(error)) from error
            except httpx.HTTPError as error:
                raise CommandError(
                    f"{wanted.url} gave no answer ({type(error).__name__}). Nothing was paid."
                ) from error

    # ---------------------------------------------------------------------- the purchase

    def _open_record(self, client: httpx.Client, wanted: WantedRequest) -> Record | None:
        """The payment to send: the open one of an earlier run, or a new one; or none."""
        path: Path | None = self._options["receipt"]
        if path is not None and path.exists():
            record = Record.resume(path, wanted)
            self._say(f"Going on with the payment of {record.content['begun']}.")
            return record
        response = wanted.send(client)
        if response.status_code != 402:
            self._finish(Bought(response, None), None)
            return None
        from x402_django.protocol.buying import read_challenge, sign_offer

        challenge = read_challenge(response.headers, response.content)
        wish = Wish.of(self._options)
        chosen = wish.choose(challenge)
        if self._options["dry_run"] or (chosen is None and not self._options["json"]):
            show = as_json if self._options["json"] else as_table
            self.stdout.write(show(challenge, wish))
        if self._options["dry_run"]:
            return None
        if chosen is None:
            self._fail("No offer is within the limit. Nothing was paid.", NOTHING_TO_PAY_WITH)
        signed = sign_offer(challenge, chosen, self._account())
        self._say(
            f"Paying {price_of(chosen)} on {display_name(chosen.network)} to {chosen.pay_to}."
        )
        return Record.begin(path, wanted, chosen, signed)

    def _buy(self, client: httpx.Client, wanted: WantedRequest, record: Record) -> None:
        try:
            bought = pay(
                client, wanted, record, tries=max(self._options["tries"], 1), tell=self._say
            )
        except OutcomeUnknown as doubt:
            self._fail(f"{doubt} It is in {record.path}.", UNKNOWN, record)
        self._finish(bought, record)

    def _account(self) -> LocalAccount:
        from x402_django.chain.wallets import settlement_account

        options = self._options
        if options["keystore"]:
            return settlement_account(
                {
                    "KEYSTORE": options["keystore"],
                    "KEYSTORE_PASSWORD_ENV": options["keystore_password_env"],
                    "KEYSTORE_PASSWORD_FILE": options["keystore_password_file"],
                    "KEY_ENV": options["key_env"],
                }
            )
        return settlement_account({"KEY_ENV": options["key_env"] or DEFAULT_KEY_ENV})

    # ------------------------------------------------------------------------ the output

    def _finish(self, bought: Bought, record: Record | None) -> None:
        """Print the seller's answer, close the record, end with the right status."""
        status = bought.response.status_code
        if record is not None:
            self._close(record, bought)
        if self._options["json"]:
            self._print_json(bought, record)
        elif status < 400:
            self._print_body(bought.response)
        if record is not None and status == 402:
            self._refused(bought, record)
        if status >= 400:
            hint = ""
            if record is not None:
                hint = f" The same payment may be tried again, it is in {record.path}."
            self._fail(f"The seller answered {status}.{hint}", ERROR_ANSWER, shown=True)
        if record is None:
            self._say("Nothing was asked for it.")
        elif bought.settlement is not None:
            self._say(
                f"Bought. Transaction: {bought.settlement.get('transaction') or 'to follow'}."
            )

    def _refused(self, bought: Bought, record: Record) -> NoReturn:
        reason = (bought.settlement or {}).get("errorReason") or _error_of(bought.response)
        if bought.is_first:
            said = f"The payment was refused: {reason}. You were not charged."
            self._fail(said, REFUSED, shown=True)
        said = (
            f"The payment is refused: {reason}. An earlier answer was lost, so you may have been "
        )
        where = f"charged: look it up on chain by its nonce, which is in {record.path}."
        self._fail(f"{said}{where}", UNKNOWN, record, shown=True)

    def _close(self, record: Record, bought: Bought) -> None:
        status = bought.response.status_code
        if status < 400:
            state = "bought"
        elif status == 402 and bought.is_first:
            state = "refused"
        else:  # whatever went wrong, the same payment may be sent again
            state = "unknown"
        record.close(state, status=status, settlement=bought.settlement)

    def _print_json(self, bought: Bought, record: Record | None) -> None:
        payment = None if record is None else record.content["payment"]
        self.stdout.write(
            json.dumps(
                {
                    "status": bought.response.status_code,
                    "paid": bought.is_paid,
                    "payment": payment,
                    "settlement": bought.settlement,
                    "contentType": bought.response.headers.get("Content-Type"),
                    "body": self._saved(bought.response),
                }
            )
        )

    def _print_body(self, response: httpx.Response) -> None:
        text = self._saved(response)
        if text is not None:
            self.stdout.write(text, ending="" if text.endswith("\n") else "\n")

    def _saved(self, response: httpx.Response) -> str | None:
        """The body as text, or None where it went into ``--output``."""
        output: Path | None = self._options["output"]
        if output is not None:
            output.write_bytes(response.content)
            return None
        return response.content.decode(response.encoding or "utf-8", errors="replace")

    def _say(self, sentence: str) -> None:
        if self._options["verbosity"] > 0:
            self.stderr.write(sentence)

    def _fail(
        self, sentence: str, status: int, record: Record | None = None, *, shown: bool = False
    ) -> NoReturn:
        if self._options["json"] and not shown:
            answer = {"status": None, "paid": None, "error": sentence}
            if record is not None:
                answer |= {"payment": record.content["payment"], "record": str(record.path)}
            self.stdout.write(json.dumps(answer))
        raise CommandError(sentence, returncode=status)


def _error_of(response: httpx.Response) -> str:
    from x402_django.protocol.buying import read_challenge

    try:
        return read_challenge(response.headers, response.content).error or "no reason given"
    except MalformedPayment:
        return "no reason given"


def _wanted(options: dict[str, Any]) -> WantedRequest:
    url, data = options["url"], options["data"]
    if not url.startswith(("https://", "http://")):
        raise CommandError("The URL begins with https:// or http://.")
    body = b""
    if data is not None and data.startswith("@"):
        try:
            body = Path(data[1:]).read_bytes()
        except OSError as error:
            raise CommandError(f"{data[1:]} cannot be read: {error.strerror}.") from error
    elif data is not None:
        body = data.encode()
    method = options["method"] or ("GET" if data is None else "POST")
    headers: Sequence[tuple[str, str]] = options["header"]
    return WantedRequest(method.upper(), url, body, tuple(headers))


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ArgumentTypeError("write 'Name: value'")
    return name.strip(), value.strip()


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text.removeprefix("$"))
    except InvalidOperation:
        raise ArgumentTypeError("write a number, such as 0.05") from None
    if not amount.is_finite() or amount <= 0:
        raise ArgumentTypeError("write a number greater than 0")
    return amount


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ArgumentTypeError("write a whole number")
    return int(text)
