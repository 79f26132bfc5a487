from django.urls import include, path
from rest_framework.routers import SimpleRouter

from tests.rest_framework import views

router = SimpleRouter()
router.register("desk", views.Desk, basename="desk")
router.register("greetings", views.Greetings, basename="greetings")

urlpatterns = [
    *(
        path(f"expression/{name}/", view.as_view(), name=name)
        for name, view in views.EXPRESSION_VIEWS.items()
    ),
    *(
        path(f"object/{name}/<slug:username>/", view.as_view(), name=f"object-{name}")
        for name, view in views.OBJECT_VIEWS.items()
    ),
    path("by-person/<slug:username>/", views.ByPerson.as_view()),
    path("everybody/", views.Everybody.as_view()),
    path("people/", views.People.as_view()),
    path("function/", views.function, name="function"),
    path("decorated/", views.decorated),
    path("raising/", views.raising),
    path("twice/", views.twice),
    path("throttled/", views.Throttled.as_view()),
    path("throttled/<slug:username>/", views.ThrottledPerson.as_view()),
    path("basic/", views.Basic.as_view()),
    path("session-or-token/", views.SessionOrToken.as_view()),
    path("pages/", views.Pages.as_view()),
    path("whimsical/", views.Whimsical.as_view()),
    path("bundle/", views.bundle),
    path("ruled/", views.Ruled.as_view(), name="ruled"),
    path("unpriced/", views.Unpriced.as_view()),
    path("unpriced-for-strangers/", views.UnpricedForStrangers.as_view()),
    path("on-account/", views.OnAccount.as_view()),
    path("failing/", views.Failing.as_view()),
    path("by-hand/", views.ByHand.as_view()),
    path("wrapping/", views.Wrapping.as_view()),
    path("subclassing/", views.Subclassing.as_view()),
    path("renamed/", views.Renamed.as_view()),
    path("cheerful/", views.Cheerful.as_view()),
    path("unhandled/", views.Unhandled.as_view()),
    path("cached/", views.cached),
    path("protected-form/", views.protected_form),
    path("", include(router.urls)),
]
