"""Text files that are known by their first characters and are no tables with separators."""

import re

from nnarray.cli.errors import CommandError

JSON_LINES = re.compile(r'\s*\{\s*"[^\n]*\}\s*\n\s*\{')
JSON = re.compile(r'\s*(\{\s*("|\}|$)|\[\s*([{\["]|$))')
HTML = re.compile(r"\s*<(!doctype\s+html|html|head|body|table)\b", re.IGNORECASE)
XML = re.compile(r"\s*<\?xml\b", re.IGNORECASE)
ARFF = re.compile(r"(\s*%[^\n]*\n|\s*\n)*\s*@relation\b", re.IGNORECASE)

KNOWN = (
    (JSON_LINES, "JSON, an object in each line", "pandas.read_json(FILE, lines=True).to_csv('table.csv', index=False)"),
    (JSON, "JSON", "pandas.read_json(FILE).to_csv('table.csv', index=False)"),
    (HTML, "an HTML page", "pandas.read_html(FILE)[0].to_csv('table.csv', index=False)"),
    (XML, "XML", "pandas.read_xml(FILE).to_csv('table.csv', index=False)"),
    (
        ARFF,
        "ARFF, as Weka writes it",
        "pandas.DataFrame(scipy.io.arff.loadarff(FILE)[0]).to_csv('table.csv', index=False)",
    ),
)
"""What a file is, by its start, and what makes a table of it."""


def refuse_foreign(name: str, sample: str) -> None:
    """Raise CommandError that names the format of a text that is no table with separators."""
    for pattern, what, remedy in KNOWN:
        if pattern.match(sample):
            page = ", perhaps of a login or an error: see what was downloaded; or" if pattern is HTML else ":"
            msg = f"{name} is {what}, not a table with separators{page} write it as CSV, in Python by {remedy}"
            raise CommandError(msg)
