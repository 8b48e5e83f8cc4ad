from collections.abc import Mapping

from scopedbump import Region

from .response import HttpResponseBase

class HttpRequest:
    scratch: Region

class HttpResponse(HttpResponseBase):
    def __init__(
        self,
        content: str = "",
        *,
        content_type: str | None = None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None: ...
