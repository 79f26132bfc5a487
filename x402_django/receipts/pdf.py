"""A receipt as a PDF. Needs ``fpdf2``, the extra ``pdf``.

The fonts of PDF itself know Western European letters only. Others need a TrueType font:
``X402["RECEIPT_FONT"]``, or DejaVu Sans where the machine has it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from django.utils.translation import gettext as _

from x402_django.conf import x402
from x402_django.exceptions import ConfigurationError
from x402_django.receipts.signing import digest_of, signature_or_none

if TYPE_CHECKING:
    from x402_django.receipts.document import Document

_PLACES: Final = (
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
    "/usr/share/fonts/dejavu/DejaVuSans.ttf",
    "/usr/share/fonts/TTF/DejaVuSans.ttf",
    "/Library/Fonts/DejaVuSans.ttf",
)
_MARGIN: Final = 20
_LABEL: Final = 38
_INK, _MUTED, _LINE = (27, 31, 36), (89, 97, 108), (213, 217, 223)


def as_pdf(document: Document, url: str) -> bytes:
    """The document on a page of A4; ``url`` is where it can be verified.

    Raises ConfigurationError where the library is not installed or the font cannot be read.
    """
    try:
        from fpdf import FPDF
    except ImportError as error:
        raise ConfigurationError(
            "PDFs need the library fpdf2: pip install 'x402-django[pdf]'."
        ) from error
    pdf = FPDF(format="A4")
    pdf.set_margin(_MARGIN)
    pdf.set_auto_page_break(True, _MARGIN)
    page = _Page(pdf, _font(pdf))
    pdf.set_title(page.text(f"{_title(document)} {document.number}"))
    pdf.set_author(page.text(document.seller))
    pdf.set_creator("x402-django")
    pdf.add_page()
    page.seller(document)
    page.heading(_title(document), document.number)
    page.amount(document)
    for label, value in rows(document):
        page.row(label, value)
    page.foot(document, url)
    return bytes(pdf.output())


def rows(document: Document) -> list[tuple[str, str]]:
    """What is under the amount, each with its label; what is empty is left out."""
    sold = not document.is_refund
    found = [
        (_("Date"), document.issued_at),
        (_("Buyer") if sold else _("Goes to"), document.buyer),
        (_("For"), document.description),
        (_("What"), document.bought),
        (_("Reason"), document.reason),
        (_("Address"), document.resource),
        (_("In US dollars"), f"{document.usd}. {document.usd_source}".lstrip(". ")),
        (_("Network"), f"{document.network} ({document.network_id})"),
        (_("Token"), f"{document.token}, {document.token_contract}"),
        (
            _("Paid to") if sold else _("Sent from"),
            document.paid_to if sold else document.paid_from,
        ),
        (_("Transaction"), document.transaction),
        (_("Terms"), document.terms),
        (_("Refund of"), document.refund_of),
        (_("Reference"), document.reference),
    ]
    return [(label, value) for label, value in found if value]


def _title(document: Document) -> str:
    return _("Refund receipt") if document.is_refund else _("Receipt")


def _font(pdf: Any) -> str:
    """The name of the font to write in; empty: PDF's own, and Western European letters."""
    chosen = x402.receipt_font
    path = Path(chosen) if chosen else next((p for p in map(Path, _PLACES) if p.exists()), None)
    if path is None:
        return ""
    try:
        pdf.add_font("receipt", fname=str(path))
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigurationError(f"X402['RECEIPT_FONT'] cannot be read: {path}") from error
    return "receipt"


class _Page:
    """One page, from top to bottom."""

    def __init__(self, pdf: Any, font: str) -> None:
        self.pdf = pdf
        self.font = font or "Helvetica"
        self.is_latin = not font

    def text(self, words: str) -> str:
        """What the font can write; a question mark for what it cannot."""
        if not self.is_latin:
            return words
        plain = words.replace("’", "'").replace("“", '"').replace("”", '"').replace("…", "...")
        return plain.encode("latin-1", "replace").decode("latin-1")

    def write(self, words: str, *, size: float, color: Any = _INK, indent: float = 0) -> None:
        """A paragraph, broken where it must be, over the whole width."""
        self.pdf.set_font(self.font, size=size)
        self.pdf.set_text_color(*color)
        self.pdf.set_x(_MARGIN + indent)
        self.pdf.multi_cell(
            0, size * 0.5, self.text(words), align="L", new_x="LMARGIN", new_y="NEXT",
            wrapmode="WORD" if " " in words else "CHAR",
        )  # fmt: skip

    def seller(self, document: Document) -> None:
        self.write(document.seller, size=12)
        for line in document.seller_address.splitlines():
            self.write(line, size=9, color=_MUTED)
        if document.seller_tax_id:
            label = _("Tax number: %(number)s") % {"number": document.seller_tax_id}
            self.write(label, size=9, color=_MUTED)
        self.pdf.ln(10)

    def heading(self, title: str, number: str) -> None:
        self.write(f"{title} {number}", size=20)
        self.pdf.ln(2)

    def amount(self, document: Document) -> None:
        self.write(document.amount, size=16)
        self.pdf.ln(4)

    def row(self, label: str, value: str) -> None:
        pdf = self.pdf
        pdf.set_draw_color(*_LINE)
        pdf.line(_MARGIN, pdf.get_y(), pdf.w - _MARGIN, pdf.get_y())
        pdf.ln(1.5)
        top, page = pdf.get_y(), pdf.page_no()
        pdf.set_font(self.font, size=9)
        pdf.set_text_color(*_MUTED)
        pdf.multi_cell(_LABEL - 4, 4.8, self.text(label), align="L")
        if pdf.page_no() == page:
            pdf.set_y(top)
        self.write(value, size=9.5, indent=_LABEL)
        pdf.ln(1.5)

    def foot(self, document: Document, url: str) -> None:
        self.pdf.ln(6)
        if document.seller_note:
            self.write(document.seller_note, size=9)
            self.pdf.ln(3)
        if url:
            self.write(_("Verify this receipt: %(url)s") % {"url": url}, size=8, color=_MUTED)
        self.write(f"SHA-256 {digest_of(document)}", size=8, color=_MUTED)
        signed = signature_or_none(document)
        if signed is not None:
            words = _("Signed with the key %(kid)s") % {"kid": signed["kid"]}
            self.write(words, size=8, color=_MUTED)
