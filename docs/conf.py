"""The documentation as a site: `make docs`. Pages are Markdown that also reads well on its own.

``README.md`` is the index. Its sections (learn, do, look up, understand: diataxis.fr) are the
site's table of contents, so that a page is put into order in one place.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

HERE: Final = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import x402_django  # noqa: E402

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "x402-django"
author = "The x402-django developers"
copyright = author
version = release = x402_django.__version__

extensions = ["myst_parser", "sphinx_copybutton"]
root_doc = "README"
exclude_patterns = ["_build"]
suppress_warnings = ["myst.header"]  # some pages begin below a title of their own
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

html_theme = "furo"
html_title = f"x402-django {release}"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
# Prompts are shown and not copied.
copybutton_prompt_text = r"\$ |# "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True
# Fonts and scripts come from the site itself: whoever reads it is nobody else's business.
html_theme_options = {"sidebar_hide_name": False, "footer_icons": []}

_SECTION: Final = re.compile(r"^## (.+)$", re.MULTILINE)
_PAGE: Final = re.compile(r"\]\(([\w-]+)\.md\)")
_OUTSIDE: Final = re.compile(r"\[((?:[^\]]|\][^(])*)\]\((\.\./[^)\s]+)\)")


def _contents(text: str) -> str:
    """The index with a hidden table of contents for each of its sections."""
    parts = _SECTION.split(text)
    written = [parts[0]]
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        pages = dict.fromkeys(_PAGE.findall(body))
        listed = "\n".join(pages)
        written.append(
            f"## {title}{body}\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{listed}\n```\n\n"
        )
    return "".join(written)


def _prepare(app: Sphinx, docname: str, source: list[str]) -> None:
    if docname == root_doc:
        source[0] = _contents(source[0])
    # Files of the repository are no pages: their names are left, without a link.
    source[0] = _OUTSIDE.sub(r"\1", source[0])


def _front_door(app: Sphinx, failure: Exception | None) -> None:
    """The index is also what is found at the site's root."""
    home = Path(app.outdir) / f"{root_doc}.html"
    if failure is None and home.exists():
        shutil.copy(home, home.with_name("index.html"))


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", _prepare)
    app.connect("build-finished", _front_door)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
