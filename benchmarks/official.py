"""The same shop on the official SDK: Flask and ``x402.http.middleware.flask``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.views import DESCRIPTION, MIME_TYPE, PRICE, WEATHER

if TYPE_CHECKING:
    from flask import Flask


def bare_app() -> Flask:
    """The view, free."""
    from flask import Flask, jsonify

    app = Flask("benchmarks")

    @app.get("/weather")
    def weather() -> Any:
        return jsonify(WEATHER)

    app.add_url_rule("/paid/weather", "paid_weather", weather)
    return app


def paid_app(client: Any, *, network: str, pay_to: str, price: Any = PRICE) -> Flask:
    """The view, sold through ``client`` (a facilitator in the SDK's sense)."""
    from x402.http.middleware.flask import PaymentMiddleware
    from x402.http.types import PaymentOption, RouteConfig
    from x402.mechanisms.evm.exact import ExactEvmServerScheme
    from x402.server import x402ResourceServerSync

    app = bare_app()
    server = x402ResourceServerSync(client)
    server.register(network, ExactEvmServerScheme())  # type: ignore[arg-type, no-untyped-call]
    option = PaymentOption(scheme="exact", pay_to=pay_to, price=price, network=network)
    route = RouteConfig(accepts=option, description=DESCRIPTION, mime_type=MIME_TYPE)
    PaymentMiddleware(app, {"GET /paid/weather": route}, server)
    return app
