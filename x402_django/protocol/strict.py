"""Strict decoding of what anybody may send: base64, JSON and the scalars of a payload.

Everything here raises MalformedPayment and nothing else, whatever it is given. Only one text is
accepted for one value (canonical base64, decimal numbers without leading zeros), so that no
two spellings of a payment can pass for two payments.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from x402_django.constants import UINT256_MAX, Code
from x402_django.exceptions import MalformedPayment
from x402_django.protocol.assets import is_address, to_checksum_address

#: Objects and arrays inside each other; official clients need 4, extensions a few more.
MAX_DEPTH: Final = 24
#: A uint256 has at most 78 digits.
MAX_DIGITS: Final = 78
MAX_SIGNATURE_BYTES: Final = 4096

_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,77}")
_BYTES32: Final = re.compile(r"0x[0-9a-fA-F]{64}")
_HEX: Final = re.compile(r"0x(?:[0-9a-fA-F]{2})+")
#: An unterminated literal reaches to the end, so that matching stays linear.
_STRING_LITERAL: Final = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_BRACKETS: Final = re.compile(r"[\[\]{}]")


def malformed(message: str) -> NoReturn:
    """Raise MalformedPayment (``invalid_payload``) with a sentence for the client's developer."""
    raise MalformedPayment(message, code=Code.INVALID_PAYLOAD)


def decode_base64(value: str) -> bytes:
    """Decode canonical, padded, standard base64, as the official clients send it.

    White space, the URL-safe alphabet, missing padding and stray trailing bits are refused.
    """
    try:
        encoded = value.encode("ascii")
        decoded = base64.b64decode(encoded, validate=True)
    except ValueError:  # also UnicodeEncodeError and binascii.Error
        malformed("The payment header is not base64.")
    if base64.b64encode(decoded) != encoded:
        malformed("The payment header is not canonical base64.")
    return decoded


def decode_json_object(data: bytes) -> dict[str, Any]:
    """Decode a UTF-8 JSON object without duplicate keys, NaN, NULs or lone surrogates."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        malformed("The payment header is not UTF-8.")
    _check_depth(text)
    try:
        value = _DECODER.decode(text)
    except (ValueError, RecursionError):
        malformed("The payment header is not JSON.")
    if not isinstance(value, dict):
        malformed("The payment header is not a JSON object.")
    if "\\u" in text:
        # Only escapes can write them; a literal NUL is no JSON, a literal surrogate no UTF-8.
        _check_strings(value)
    return value


def string(parent: Mapping[str, Any], key: str) -> str:
    """A non-empty string."""
    value = parent.get(key)
    if not isinstance(value, str) or not value:
        malformed(f"'{key}' must be a non-empty string.")
    return value


def mapping(parent: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A JSON object."""
    value = parent.get(key)
    if not isinstance(value, dict):
        malformed(f"'{key}' must be an object.")
    return value


def optional_mapping(parent: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A JSON object; empty when absent or null (the schemas of the SDKs allow null)."""
    return {} if parent.get(key) is None else mapping(parent, key)


def whole_number(parent: Mapping[str, Any], key: str) -> int:
    """A JSON integer that is not negative; ``true`` and ``1.0`` are none."""
    value = parent.get(key)
    if type(value) is not int or value < 0:
        malformed(f"'{key}' must be a whole number.")
    return value


def uint256(parent: Mapping[str, Any], key: str) -> int:
    """A canonical decimal string up to 2**256 - 1.

    JSON numbers are refused: every official client sends strings, and JavaScript would have
    rounded a large number before it came here.
    """
    value = parent.get(key)
    if not isinstance(value, str) or _DECIMAL.fullmatch(value) is None:
        malformed(f"'{key}' must be a string of decimal digits without leading zeros.")
    number = int(value)
    if number > UINT256_MAX:
        malformed(f"'{key}' is larger than a uint256.")
    return number


def address(parent: Mapping[str, Any], key: str) -> str:
    """A 20-byte hex address of any letter case, returned checksummed."""
    value = parent.get(key)
    if not is_address(value):
        malformed(f"'{key}' must be a 20-byte hex address.")
    return to_checksum_address(value)


def bytes32(parent: Mapping[str, Any], key: str) -> str:
    """32 bytes as 0x-hex of any letter case, returned in lower case."""
    value = parent.get(key)
    if not isinstance(value, str) or _BYTES32.fullmatch(value) is None:
        malformed(f"'{key}' must be 32 bytes of hex.")
    return value.lower()


def signature(parent: Mapping[str, Any], key: str) -> bytes:
    """1 to ``MAX_SIGNATURE_BYTES`` bytes as 0x-hex; contract wallets' are of any length."""
    return hex_bytes(parent, key, longest=MAX_SIGNATURE_BYTES)


def hex_bytes(parent: Mapping[str, Any], key: str, *, longest: int) -> bytes:
    """1 to ``longest`` bytes as 0x-hex."""
    value = parent.get(key)
    if not isinstance(value, str) or _HEX.fullmatch(value) is None:
        malformed(f"'{key}' must be hex.")
    if len(value) > 2 + 2 * longest:
        malformed(f"'{key}' is too long.")
    return bytes.fromhex(value[2:])


def _check_depth(text: str) -> None:
    """Refuse deep nesting before the decoder recurses into it."""
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in _BRACKETS.findall(_STRING_LITERAL.sub("", text)):
        depth += 1 if bracket in "{[" else -1
        if depth > MAX_DEPTH:
            malformed("The payment header is nested too deeply.")


def _check_strings(value: object) -> None:
    if isinstance(value, str):
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            malformed("The payment header contains a character that is not text.")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_strings(key)
            _check_strings(item)
    elif isinstance(value, list):
        for item in value:
            _check_strings(item)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        malformed("The payment header has a duplicate key.")
    return result


def _bounded_int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        malformed("The payment header has a number that is too large.")
    return int(digits)


def _finite_float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        malformed("The payment header has a number that is too large.")
    return number


def _no_constant(name: str) -> NoReturn:
    malformed(f"{name} is not JSON.")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique_keys,
    parse_int=_bounded_int,
    parse_float=_finite_float,
    parse_constant=_no_constant,
)
