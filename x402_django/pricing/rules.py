"""Price rules, compiled: rows become plain immutable objects that need no query."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING

from x402_django import clock
from x402_django.conf import x402
from x402_django.constants import DEFAULT_MERCHANT, EFFECT_FREE
from x402_django.exceptions import ConfigurationError
from x402_django.pricing.conditions import NOBODY, Asker, Conditions, compile_conditions
from x402_django.pricing.discounts import Discounts, compile_discounts
from x402_django.pricing.grants import Grant, compile_grant
from x402_django.pricing.methods import (
    OfferTemplate,
    method_template,
    offers_for,
    settings_templates,
    suited,
)
from x402_django.pricing.money import parse_usd
from x402_django.pricing.quotas import Quota, compile_quota
from x402_django.protocol.types import Offer

if TYPE_CHECKING:
    from x402_django.models import PaymentMethod, PreviousPrice, PriceRule

#: Methods that a rule's list of methods can leave out. Any other verb is covered by every rule,
#: so that an invented verb does not walk around a price (a function view answers them all).
LISTABLE_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True, slots=True)
class EarlierTerms:
    """What a rule asked for before it was edited; good until ``until``."""

    until: datetime
    price_usd: Decimal | None
    unit_price_usd: Decimal | None
    offers: tuple[Offer, ...]
    grant: Grant | None


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A PriceRule as it is needed per request.

    ``error`` is set instead of ``offers`` when the row cannot be priced (for example no payment
    method is left): the view then answers 503, never free content.
    """

    pk: int | None
    name: str
    key: str
    url_names: tuple[str, ...]
    methods: frozenset[str]
    price_usd: Decimal | None
    offers: tuple[Offer, ...]
    description: str
    mime_type: str
    flow: str
    session_access: int | None
    identifier_required: bool | None
    valid_from: datetime | None
    valid_until: datetime | None
    unit_price_usd: Decimal | None = None
    merchant_id: int = DEFAULT_MERCHANT
    #: What it sells beside one request; None: nothing.
    grant: Grant | None = None
    #: Whether credits may be spent on it.
    takes_credits: bool = False
    #: What good customers are let off; None: nothing.
    discounts: Discounts | None = None
    #: Requests that it gives away; None: none.
    quota: Quota | None = None
    #: For whom and when; None: for everybody, always.
    conditions: Conditions | None = None
    #: Whom it is for is let in free of charge.
    is_free: bool = False
    #: The newest first.
    earlier: tuple[EarlierTerms, ...] = ()
    error: str = ""

    def is_for(self, asker: Asker, moment: datetime) -> bool:
        """Whether its conditions hold. Raises as ``Conditions.hold``."""
        return self.conditions is None or self.conditions.hold(asker, moment)

    def in_force(self, method: str, now: datetime) -> bool:
        """Whether the rule applies to HTTP ``method`` at ``now``. HEAD costs what GET costs."""
        return self.is_valid_at(now) and self.takes(method)

    def is_valid_at(self, now: datetime) -> bool:
        """Whether ``now`` is between its dates."""
        if self.valid_from is not None and now < self.valid_from:
            return False
        return self.valid_until is None or now < self.valid_until

    def takes(self, method: str) -> bool:
        """Whether it is for HTTP ``method``. HEAD is as GET."""
        if not self.methods or method not in LISTABLE_METHODS:
            return True
        return ("GET" if method == "HEAD" else method) in self.methods


@dataclass(slots=True)
class RuleSet:
    """All active rules, indexed, with the default ways of being paid; a snapshot."""

    loaded_at: float
    templates: tuple[OfferTemplate, ...]
    by_key: dict[str, list[CompiledRule]]
    by_url_name: dict[str, list[CompiledRule]]
    #: The ways of being paid of the other merchants, where a rule names none.
    templates_of: Mapping[int, tuple[OfferTemplate, ...]] = field(default_factory=dict)
    #: Whose a page is, by its key or URL name; what is not in it is the site's own.
    owners: Mapping[str, int] = field(default_factory=dict)
    #: Pages and keys that some pass on sale opens, each with its merchant.
    opened: frozenset[tuple[str, int]] = frozenset()
    #: Code prices as they are written, with what they amount to.
    _priced: dict[tuple[str, bool, int], tuple[Decimal, tuple[Offer, ...]]] = field(
        default_factory=dict
    )

    def find(
        self,
        *,
        key: str | None,
        url_name: str | None,
        method: str,
        at: datetime | None = None,
        asker: Asker = NOBODY,
    ) -> CompiledRule | None:
        """The rule in force: by key first, then by URL name; each list is in priority order.

        Only rules of the merchant whose page it is (see ``owner_of``).

        ``at`` is when; now by default. Of the rules as they are today in any case. ``asker`` is
        who asks; by default nobody in particular. Raises as ``Conditions.hold``.
        """
        moment = at
        for rule in self.candidates(key=key, url_name=url_name):
            moment = moment or clock.now()
            if rule.in_force(method, moment) and rule.is_for(asker, moment):
                return rule
        return None

    def candidates(self, *, key: str | None, url_name: str | None) -> Iterator[CompiledRule]:
        """The rules on a page, in the order in which they are looked at; of its merchant alone."""
        owner = self.owner_of(key=key, url_name=url_name)
        for index, name in ((self.by_key, key), (self.by_url_name, url_name)):
            for rule in index.get(name, ()) if name else ():
                if rule.merchant_id == owner:
                    yield rule

    def has_passes(self, *, key: str | None, url_name: str | None, merchant_id: int) -> bool:
        """Whether there is a pass on sale that opens the page."""
        return (url_name, merchant_id) in self.opened or (key, merchant_id) in self.opened

    def owner_of(self, *, key: str | None, url_name: str | None) -> int:
        """The merchant who sells a page: by its key in code, or else by the name of its URL."""
        if not self.owners:
            return DEFAULT_MERCHANT
        by_key = self.owners.get(key) if key else None
        return by_key or self.owners.get(url_name or "", DEFAULT_MERCHANT)

    def priced(
        self, price: object, *, metered: bool = False, merchant_id: int = DEFAULT_MERCHANT
    ) -> tuple[Decimal, tuple[Offer, ...]]:
        """A price given in code, in dollars and as offers. ``metered``: it is a maximum.

        Raises ConfigurationError (see ``parse_usd`` and ``offers_for``).
        """
        known = self._priced.get((price, metered, merchant_id)) if type(price) is str else None
        if known is not None:
            return known
        price_usd = parse_usd(price)
        own = merchant_id == DEFAULT_MERCHANT
        templates = self.templates if own else self.templates_of.get(merchant_id, ())
        templates = suited(templates, metered=metered)
        result = price_usd, offers_for(templates, price_usd=price_usd)
        if type(price) is str and len(self._priced) < 1024:  # prices made per request
            self._priced[price, metered, merchant_id] = result
        return result


def unsellable_rules() -> list[CompiledRule]:
    """The active rules, as they are stored now, that cannot be priced; ``error`` says why."""
    rules = load_rules(loaded_at=0.0)
    found = [*rules.by_key.values(), *rules.by_url_name.values()]
    broken = {rule.pk: rule for listed in found for rule in listed if rule.error}
    return list(broken.values())


def compile_rule(
    rule: PriceRule,
    methods: Sequence[PaymentMethod],
    default_templates: tuple[OfferTemplate, ...],
    previous: Sequence[PreviousPrice] = (),
) -> CompiledRule:
    """One row as a CompiledRule; ``methods`` are the row's own active payment methods.

    ``previous`` are the prices that it had and that still pay.

    A row that names methods, none of which is active, cannot be priced: falling back to other
    methods would take money where the merchant did not say.
    """
    templates = tuple(method_template(m) for m in methods) or suited(
        default_templates, metered=rule.unit_price_usd is not None
    )
    offers: tuple[Offer, ...] = ()
    error = ""
    is_free = rule.effect == EFFECT_FREE
    try:
        price = parse_usd(rule.price_usd) if rule.price_usd is not None else None
        if not is_free:
            offers = offers_for(templates, price_usd=price, token_amount=rule.token_amount)
    except ConfigurationError as failure:
        error = str(failure)
    conditions = compile_conditions(rule)
    if rule.lost_groups and not is_free and conditions is not None:
        # It applies, and sells nothing, until somebody has said for whom it is.
        conditions = replace(conditions, groups=frozenset())
        error = "All of its groups were deleted. Choose others, or none."
    return CompiledRule(
        pk=rule.pk,
        name=rule.name,
        key=rule.key,
        url_names=_names(rule.url_names),
        methods=frozenset(method.strip().upper() for method in _names(rule.methods)),
        price_usd=rule.price_usd,
        offers=offers,
        description=rule.description,
        mime_type=rule.mime_type,
        flow=rule.flow,
        session_access=rule.session_access,
        identifier_required=rule.identifier_required,
        valid_from=rule.valid_from,
        valid_until=rule.valid_until,
        unit_price_usd=rule.unit_price_usd,
        merchant_id=rule.merchant_id,  # type: ignore[arg-type]  # never null
        grant=compile_grant(rule, rule),
        takes_credits=rule.takes_credits,
        discounts=compile_discounts(rule, templates),
        quota=compile_quota(rule),
        conditions=conditions,
        is_free=is_free,
        earlier=_earlier_terms(rule, previous, templates),
        error=error,
    )


def _earlier_terms(
    rule: PriceRule, previous: Sequence[PreviousPrice], templates: tuple[OfferTemplate, ...]
) -> tuple[EarlierTerms, ...]:
    """Earlier prices, in today's ways of being paid: where money goes is never an earlier matter.

    One that cannot be paid today (a minimum was raised, a token changed) pays no more.
    """
    terms = []
    for row in previous:
        try:
            offers = offers_for(templates, price_usd=row.price_usd, token_amount=row.token_amount)
        except ConfigurationError:
            continue
        until = row.ended_at + _grace()
        grant = compile_grant(rule, row)
        terms.append(EarlierTerms(until, row.price_usd, row.unit_price_usd, offers, grant))
    return tuple(terms)


def _grace() -> timedelta:
    """How long after an edit the price before it pays.

    Other processes have asked for it until they read the rules anew; PRICE_GRACE begins then.
    """
    return timedelta(seconds=x402.price_grace + max(0.0, x402.rules_max_age))


def _names(value: list[str] | str | None) -> tuple[str, ...]:
    """A JSON column that should be a list; a lone text in it is one name, not its letters."""
    return (value,) if isinstance(value, str) else tuple(value or ())


def load_templates(merchant_id: int = DEFAULT_MERCHANT) -> tuple[OfferTemplate, ...]:
    """The ways of being paid of a merchant where a rule names none.

    Its active rows; the site's own merchant without any is paid as the settings say. Nobody else
    is: that would be the site's money.
    """
    from x402_django.models import PaymentMethod

    active = PaymentMethod.objects.filter(active=True, merchant_id=merchant_id)
    templates = tuple(method_template(method) for method in active)
    return templates or (settings_templates() if merchant_id == DEFAULT_MERCHANT else ())


def _templates_by_merchant() -> dict[int, tuple[OfferTemplate, ...]]:
    """``load_templates`` of every merchant, in one query."""
    from x402_django.models import PaymentMethod

    rows: dict[int, list[OfferTemplate]] = defaultdict(list)
    for method in PaymentMethod.objects.filter(active=True):
        rows[method.merchant_id].append(method_template(method))  # type: ignore[index]
    found = {merchant: tuple(templates) for merchant, templates in rows.items()}
    found.setdefault(DEFAULT_MERCHANT, settings_templates())
    return found


def load_rules(loaded_at: float) -> RuleSet:
    """Read and compile everything, in five queries."""
    from x402_django.models import MerchantPage, PreviousPrice, PriceRule

    templates = _templates_by_merchant()
    rules = list(
        PriceRule.objects.filter(active=True)
        .prefetch_related("payment_methods")
        .order_by("-priority", "pk")
    )
    previous: dict[int, list[PreviousPrice]] = defaultdict(list)
    if x402.price_grace:
        for row in PreviousPrice.objects.filter(ended_at__gt=clock.now() - _grace()):
            previous[row.rule_id].append(row)
    owners = dict(MerchantPage.objects.values_list("name", "merchant_id"))
    _forget_deleted_groups(rules)
    return index_rules(rules, templates, loaded_at, previous, owners)


def _forget_deleted_groups(rules: Sequence[PriceRule]) -> None:
    """Note on rules that name groups whether any of them is left; a query only if some do.

    A rule that asks members of a group to pay must not let everybody in once the group is gone.
    """
    named = {int(key) for rule in rules for key in rule.groups or ()}
    if not named:
        return
    from django.contrib.auth.models import Group

    left = set(Group.objects.filter(pk__in=named).values_list("pk", flat=True))
    for rule in rules:
        rule.lost_groups = bool(rule.groups) and not left & {int(key) for key in rule.groups}


def index_rules(
    rules: Iterable[PriceRule],
    templates: Mapping[int, tuple[OfferTemplate, ...]],
    loaded_at: float,
    previous: Mapping[int, Sequence[PreviousPrice]] = MappingProxyType({}),
    owners: Mapping[str, int] = MappingProxyType({}),
) -> RuleSet:
    """Compile ``rules`` (in priority order) into a RuleSet; ``templates`` are by merchant."""
    by_key: dict[str, list[CompiledRule]] = defaultdict(list)
    by_url_name: dict[str, list[CompiledRule]] = defaultdict(list)
    opened: set[tuple[str, int]] = set()
    for row in rules:
        chosen = list(row.payment_methods.all())
        # A method of somebody else's would pay somebody else; the form refuses it.
        usable = [one for one in chosen if one.active and one.merchant_id == row.merchant_id]
        default = () if chosen else templates.get(row.merchant_id, ())  # type: ignore[arg-type]
        compiled = compile_rule(row, usable, default, previous.get(row.pk, ()))
        if compiled.key:
            by_key[compiled.key].append(compiled)
        for url_name in compiled.url_names:
            by_url_name[url_name].append(compiled)
        if compiled.grant is not None:
            names = (*compiled.grant.pages, *compiled.grant.keys)
            opened.update((name, compiled.merchant_id) for name in names)
    return RuleSet(
        loaded_at,
        templates.get(DEFAULT_MERCHANT, ()),
        dict(by_key),
        dict(by_url_name),
        templates_of=templates,
        owners=owners,
        opened=frozenset(opened),
    )
