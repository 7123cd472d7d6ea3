"""Files that are known by their first characters and are no tables with separators."""

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


BINARY = (
    (rb"(?s:.{4})\0{4}\{\"", "in the format safetensors, as models are,"),
    (rb"SQLite format 3\0", "an SQLite database"),
    (rb"ARROW1", "Feather, as Arrow writes it"),
    (rb"\x89HDF", "HDF5"),
    (rb"ORC", "ORC"),
    (rb"Obj\x01", "Avro"),
    (rb"MATLAB 5", "a file of MATLAB"),
    (rb"<stata_dta>", "a file of Stata"),
    (rb"RD[XA][23]\n", "a file of R"),
    (rb"\x80[\x02-\x05]", "a pickle of Python, which may run code when it is read,"),
    (rb"\x93NUMPY", "an array of NumPy, whose name has to end in .npy,"),
    (rb"%PDF", "a PDF"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8", "a picture"),
    (rb"7z\xbc\xaf|Rar!|\x04\x22\x4d\x18|\]\0\0[\0-\x80]", "an archive of a kind that is not unpacked here"),
    (rb"\x1f\x8b|\x28\xb5\x2f\xfd|\xfd7zXZ|PK\x03\x04", "an archive within an archive"),
    (rb"(?s:.{257})ustar", "a tar archive, of which a file has to be taken out first,"),
)
"""Formats of bytes, by their start."""


def refuse_binary(name: str, start: bytes) -> None:
    """Raise CommandError that names the format of bytes that are no text."""
    for pattern, what in BINARY:
        if re.match(pattern, start):
            msg = f"{name} is {what} and not a table with separators: write the table as CSV or Parquet"
            raise CommandError(msg)


def refuse_foreign(name: str, sample: str) -> None:
    """Raise CommandError that names the format of a text that is no table with separators."""
    for pattern, what, remedy in KNOWN:
        if pattern.match(sample):
            page = ", perhaps of a login or an error: see what was downloaded; or" if pattern is HTML else ":"
            msg = f"{name} is {what}, not a table with separators{page} write it as CSV, in Python by {remedy}"
            raise CommandError(msg)
