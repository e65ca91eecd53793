"""The explorer: a local web application that shows runs while they train, and what their networks compute."""

from typing import TYPE_CHECKING

from scenelab.lazy import lazy_exports

if TYPE_CHECKING:
    from scenelab.app.catalog import Catalog
    from scenelab.app.server import serve
else:
    __getattr__ = lazy_exports(__name__, __file__)

__all__ = ["Catalog", "serve"]
