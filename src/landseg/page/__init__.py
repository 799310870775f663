"""The report page: the results of one run or of many, as one HTML file that opens from disk, offline."""

from landseg.page.document import Figure, page

__all__ = ["Figure", "page"]
