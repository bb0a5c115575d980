"""One self-contained HTML page per run, from the files in its folder: `python -m codiemb.report FOLDER`."""

from codiemb.report.page import REPORT_FILE, write_report

__all__ = ["REPORT_FILE", "write_report"]
