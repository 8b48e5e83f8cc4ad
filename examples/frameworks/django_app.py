"""Django: a region for each request, as `request.scratch`."""

from typing import Any

import django
from django.conf import settings
from django.http import HttpResponse
from django.urls import path

from scopedbump import RegionPool


def root(request: Any) -> HttpResponse:
    return HttpResponse(request.scratch.copy(b"made in scratch memory"))


urlpatterns = [path("", root)]
settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["testserver"],
    MIDDLEWARE=["scopedbump.django.ScratchMiddleware"],
    SCOPEDBUMP={"POOL": RegionPool(size=1 << 28)},  # or where to import it from; "ESCAPE", "FULL_STATUS"
)
django.setup()

if __name__ == "__main__":
    from django.test import Client

    assert Client().get("/").content == b"made in scratch memory"
