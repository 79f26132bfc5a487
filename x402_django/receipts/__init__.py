"""Receipts as documents: numbered, with the seller as at the time, signed, on a page and as a PDF.

============  ==============================================================================
``numbers``   without gaps, by merchant and year; given after the sale, which waits for nothing
``document``  what a receipt says, as text: the same fields on the page, in the PDF, in JSON
``signing``   the document's digest, and its signature by the site's key
``pdf``       the document as a PDF (the extra ``pdf``)
============  ==============================================================================
"""
