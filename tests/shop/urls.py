from django.urls import path

from tests.shop import views

app_name = "shop"
urlpatterns = [
    path("free/", views.free, name="free"),
    path("weather/", views.weather, name="weather"),
    path("async-weather/", views.async_weather, name="async-weather"),
    path("metered/", views.metered, name="metered"),
    path("broken/", views.broken, name="broken"),
    path("missing/", views.missing, name="missing"),
    path("flaky/", views.upfront_flaky, name="flaky"),
    path("order/", views.order, name="order"),
    path("slow/", views.slow, name="slow"),
    path("large/", views.large, name="large"),
    path("stream/", views.stream, name="stream"),
    path("by-size/", views.by_size, name="by-size"),
    path("report/", views.report, name="report"),
    path("articles/<slug:slug>/", views.article, name="article"),
    path("asking/", views.asking, name="asking"),
    path("careless/", views.careless, name="careless"),
    path("photo/", views.Photo.as_view(), name="photo"),
    path("plan/<int:cents>/", views.Plan.as_view(), name="plan"),
    path("hidden/", views.hidden, name="hidden"),
    path("public-cache/", views.public_cache, name="public-cache"),
]
