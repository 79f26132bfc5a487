"""A shop that sells an API, a DRF API and articles, and an agent that buys from it.

``settings``, ``urls``, ``views``, ``api``   the shop: an ordinary Django project
``celery``, ``asgi``, ``wsgi``               how it is run
``agent``                                    the buyer: the official x402 client and a key
``run``                                      ``make demo`` and ``make serve``
"""

from demo_project.celery import app as celery_app

__all__ = ["celery_app"]
