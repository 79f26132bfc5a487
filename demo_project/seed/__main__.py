"""``python -m demo_project.seed``: made-up payments into the database of ``DATABASE_URL``."""

from __future__ import annotations

import argparse
import os
import sys

from demo_project.console import note, say
from demo_project.errors import DemoError
from demo_project.run import VAR_DIR


def main() -> int:
    """Fill the database; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m demo_project.seed", description=__doc__)
    parser.add_argument("--rows", type=_positive, default=20_000, help="payments (20,000)")
    parser.add_argument("--add", action="store_true", help="although there are payments")
    parser.add_argument("--number", type=int, default=402, help="another ledger of that size")
    options = parser.parse_args()
    # Not the file of `make demo`, which forgets its ledger when it starts.
    os.environ.setdefault("DATABASE_URL", f"sqlite:///{VAR_DIR / 'seed.sqlite3'}")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo_project.settings")
    VAR_DIR.mkdir(parents=True, exist_ok=True)
    try:
        _seed(options.rows, add=options.add, number=options.number)
    except DemoError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


def _seed(rows: int, *, add: bool, number: int) -> None:
    import django
    from django.core.management import call_command

    django.setup()
    from demo_project.seed.dashboard import fill_dashboard
    from demo_project.seed.ledger import counts, seed_ledger, tidy_up
    from demo_project.shop import MERCHANT, merchant_login

    call_command("migrate", verbosity=0, interactive=False)
    filled = tidy_up(seed_ledger(rows, add=add, number=number, stream=sys.stderr))
    steps = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in filled.seconds.items())
    say(f"{filled.payments:,} payments, {filled.rate:,.0f} a second ({steps})")
    for name, count in counts().items():
        note(f"{count:,}", name)
    note(f"{fill_dashboard(number, sys.stderr):.0f} s", "to count the days of the dashboard")
    password = merchant_login(renew=False)
    login = f"{MERCHANT} / {password}" if password else "the login is unchanged"
    url = os.environ["DATABASE_URL"]
    say(
        f"\nTo look at it ({login}):\n"
        f"  DATABASE_URL={url} DEBUG=1 .venv/bin/python manage.py runserver\n"
        "  http://127.0.0.1:8000/admin/"
    )


def _positive(text: str) -> int:
    value = int(text.replace(",", "").replace("_", ""))
    if value < 1:
        raise argparse.ArgumentTypeError("a positive number of payments is needed")
    return value


if __name__ == "__main__":
    sys.exit(main())
