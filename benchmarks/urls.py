from django.urls import path

from benchmarks import views

urlpatterns = [
    path("weather", views.weather, name="weather"),
    path("paid/weather", views.paid_weather, name="paid-weather"),
    path("deferred/weather", views.deferred_weather, name="deferred-weather"),
    path("facilitated/weather", views.facilitated_weather, name="facilitated-weather"),
]
