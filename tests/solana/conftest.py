from __future__ import annotations

import pytest

collect_ignore_glob: list[str] = []
try:
    import solana  # noqa: F401
    import solders  # noqa: F401
except ImportError:  # the extra `svm`
    collect_ignore_glob = ["*.py"]
else:
    from solders.keypair import Keypair

    from tests.solana.buyer import Buyer
    from tests.solana.cluster import NETWORK, Cluster
    from tests.solana.facilitator import SolanaFacilitator

    @pytest.fixture
    def cluster():
        return Cluster()

    @pytest.fixture
    def facilitator(cluster):
        with SolanaFacilitator(cluster) as facilitator:
            yield facilitator

    @pytest.fixture
    def payee(settings, facilitator):
        """The address of a shop that sells on Solana alone."""
        address = str(Keypair().pubkey())
        options = {"URL": facilitator.url, "TRUST": True, "SETTLE_TIMEOUT": 5}
        backend = "x402_django.facilitators.RemoteFacilitator"
        settings.X402 = {
            "BASE_URL": "https://shop.example",
            "NETWORKS": {NETWORK: {"PAY_TO": address}},
            "FACILITATORS": {"default": {"BACKEND": backend, "OPTIONS": options}},
            "RETRY_AFTER": 1,
        }
        return address

    @pytest.fixture
    def buyer(cluster, payee):
        return Buyer(cluster)
