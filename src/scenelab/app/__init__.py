"""The explorer: a local web page that shows predictions, attributions and attacks."""

from typing import TYPE_CHECKING

from scenelab.lazy import lazy_exports

if TYPE_CHECKING:
    from scenelab.app.handlers import Handlers
    from scenelab.app.session import open_session
else:
    __getattr__ = lazy_exports(__name__, __file__)

__all__ = ["Handlers", "open_session"]
