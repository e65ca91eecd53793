"""Reports of runs and studies as HTML, PDF and model cards."""

from typing import TYPE_CHECKING

from scenelab.lazy import lazy_exports

if TYPE_CHECKING:
    from scenelab.report.card import make_card
    from scenelab.report.team import Team, read_team
    from scenelab.report.write import render, to_pdf
else:
    __getattr__ = lazy_exports(__name__, __file__)

__all__ = ["Team", "make_card", "read_team", "render", "to_pdf"]
