"""The cursor of a network's scan and the lease on it: both in the database.

The lease spares the node double work; it guards nothing. Whoever lost it without knowing does no
harm, since each payment moves by a conditional write of its own. It ends by itself, so a holder
that was killed is followed by another.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import router, transaction
from django.db.models import Q, QuerySet

from x402_django import clock
from x402_django.conf import x402
from x402_django.models import ChainScan, ScannedBlock

#: How long a silent holder is waited for, in time-outs of its node and in seconds at least. It
#: renews the lease at every piece it reads, which takes two requests to one of several endpoints.
_TIMEOUTS: Final = 6
_LEAST: Final = 10.0


class LeaseLost(Exception):
    """The lease ended before its holder came back to renew it, and another may have it."""


def lease_time(network: str) -> timedelta:
    """How long a lease on ``network`` lasts if it is not renewed."""
    return timedelta(seconds=max(_TIMEOUTS * x402.network(network).rpc_timeout, _LEAST))


class Lease:
    """The right to scan ``network``, until it is released or not renewed for ``lease_time``."""

    def __init__(self, network: str, holder: str, until: datetime) -> None:
        self.network = network
        self._holder = holder
        self._until = until
        self._news: dict[str, Any] = {}
        self._time = lease_time(network)

    @classmethod
    def acquire(cls, network: str) -> Lease | None:
        """The lease, or None while another run holds it."""
        now = clock.now()
        ChainScan.objects.get_or_create(network=network)
        lease = cls(network, secrets.token_hex(16), now + lease_time(network))
        free = Q(holder="") | Q(held_until__isnull=True) | Q(held_until__lt=now)
        taken = ChainScan.objects.filter(free, network=network).update(
            holder=lease._holder, held_until=lease._until
        )
        return lease if taken else None

    def keep(self) -> None:
        """Renew the lease if a good part of it has passed. Raises LeaseLost."""
        if self._until - clock.now() < self._time * 3 / 4:
            self._renew()

    def saw(self, head: int) -> None:
        """The chain's newest block, to be written down when the lease ends."""
        self._news["head"] = head

    def finish(self) -> None:
        """This run has read all there was; written down when the lease ends."""
        self._news["finished_at"] = clock.now()

    def release(self) -> None:
        """Let the next run begin at once, and say how far this one came."""
        self._own().update(holder="", held_until=None, **self._news)

    def newest(self) -> ScannedBlock | None:
        """The cursor: the block up to which everything was read."""
        return self._blocks().first()

    def remembered(self, below: int) -> list[ScannedBlock]:
        """The blocks below the one with that number, newest first."""
        return list(self._blocks().filter(number__lt=below))

    def move(self, number: int, block_hash: str) -> None:
        """Everything up to this block is read. Raises LeaseLost, and the cursor stays."""
        with transaction.atomic(using=router.db_for_write(ScannedBlock)):
            self._renew()
            ScannedBlock.objects.update_or_create(
                network=self.network, number=number, defaults={"hash": block_hash}
            )

    def rewind(self, number: int) -> None:
        """Forget what was read above a block. Raises LeaseLost, and nothing is forgotten."""
        with transaction.atomic(using=router.db_for_write(ScannedBlock)):
            self._renew()
            self._blocks().filter(number__gt=number).delete()

    def forget(self, below: int) -> None:
        """Drop hashes that nothing depends on any more."""
        self._blocks().filter(number__lt=below).delete()

    def _renew(self) -> None:
        until = clock.now() + self._time
        if not self._own().update(held_until=until):
            raise LeaseLost(self.network)
        self._until = until

    def _own(self) -> QuerySet[ChainScan]:
        return ChainScan.objects.filter(network=self.network, holder=self._holder)

    def _blocks(self) -> QuerySet[ScannedBlock]:
        return ScannedBlock.objects.filter(network=self.network).order_by("-number")
