from django.urls import include, path

from tests.browser.site import views

urlpatterns = [
    path("article/", views.article, name="article"),
    path("once/", views.once, name="once"),
    path("slow/", views.slow, name="slow"),
    path("failing/", views.failing, name="failing"),
    path("large/", views.large, name="large"),
    path("form/", views.form, name="form"),
    path("", include("tests.clients.site.urls")),
]
