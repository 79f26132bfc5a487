"""The demo's admin in other looks: every page of ours is there with django-unfold as well."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("unfold")

ROOT = Path(__file__).resolve().parents[2]
VISIT = """
import django; django.setup()
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

call_command("migrate", verbosity=0)
from tests.admin.rows import make_event, make_method, make_payment, make_receipt, make_rule
from x402_django.payments.refunds.requesting import request_refund

user = User.objects.create_superuser("owner")
payment = make_payment(1, state="final")
made = [make_method(), make_rule(), payment, make_event(payment), make_receipt(payment)]
made.append(request_refund(payment, 1, user=user))
client = Client(headers={"host": "127.0.0.1"})
client.force_login(user)
site = admin.site
pages = ["/admin/", "/admin/x402_django/desk/", "/admin/x402_django/pricerule/try/",
         "/admin/x402_django/receipt/export/", "/admin/x402_django/pricerule/add/",
         "/admin/x402_django/paymentmethod/add/",
         f"/admin/x402_django/payment/{payment.pk}/refund/"]
pages += [reverse(f"admin:x402_django_{m._meta.model_name}_changelist")
          for m in site._registry if m._meta.app_label == "x402_django"]
pages += [reverse(f"admin:x402_django_{row._meta.model_name}_change", args=[row.pk])
          for row in made]
for page in pages:
    answer = client.get(page, secure=True)
    assert answer.status_code == 200, (page, answer.status_code, answer.content[:500])
    assert b"unfold" in answer.content, page
print(len(pages))
"""


def test_every_page_is_there(tmp_path: Path) -> None:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", VISIT],
        cwd=ROOT,
        env={
            **kept,
            "DJANGO_SETTINGS_MODULE": "demo_project.settings",
            "DEMO_ADMIN": "unfold",
            "DEMO_VAR_DIR": str(tmp_path),
            "DEBUG": "1",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert int(done.stdout) > 35
