"""The Celery app. x402-django's periodic tasks register themselves for beat."""

import os

from celery import Celery
from kombu.transport import TRANSPORT_ALIASES

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo_project.settings")

TRANSPORT_ALIASES["filesystem"] = "demo_project.messages:Transport"

app = Celery("demo_project")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
