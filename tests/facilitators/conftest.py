from tests.chain.fixtures import chain, patience

__all__ = ["chain", "patience"]
