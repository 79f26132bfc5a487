"""From a request to its Quote: rules compiled and cached, code prices, payment methods."""

from x402_django.pricing.options import PaidViewOptions
from x402_django.pricing.quotes import Quote, earlier_quotes, quote_request

__all__ = ["PaidViewOptions", "Quote", "earlier_quotes", "quote_request"]
