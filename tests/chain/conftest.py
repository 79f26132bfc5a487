from tests.chain.fixtures import chain, nodes

__all__ = ["chain", "nodes"]
