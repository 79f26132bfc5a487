from tests.chain.fixtures import chain

__all__ = ["chain"]
