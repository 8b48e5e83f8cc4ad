from collections.abc import Callable
from typing import Any

class HttpResponseBase:
    streaming: bool
    close: Callable[[], None]
    is_async: bool
    streaming_content: Any
