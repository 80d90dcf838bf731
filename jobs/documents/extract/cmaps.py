"""Encodings of composite fonts by the name of their CMap (ISO 32000-1, table 118).

pypdf takes a name that it has not for UTF-16, and shows other characters. Missing here, because
Python has no such codec: CNS-EUC, GBT-EUC, and those of JIS C 6226-1978 (78-*, Ext-*).
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

UNKNOWN = "\ufffd"

ENCODINGS = {
    "GB-EUC": "gbk",
    "GBpc-EUC": "gb2312",
    "GBK-EUC": "gbk",
    "GBKp-EUC": "gbk",
    "GBK2K": "gb18030",
    "GB": "pdf_gb2312_7bit",
    "B5pc": "big5",
    "HKscs-B5": "big5hkscs",
    "ETen-B5": "cp950",
    "ETenms-B5": "cp950",
    "90ms-RKSJ": "cp932",
    "90msp-RKSJ": "cp932",
    "90pv-RKSJ": "shift_jis",
    "83pv-RKSJ": "shift_jis",
    "Add-RKSJ": "shift_jis",
    "RKSJ": "shift_jis",
    "EUC": "euc_jp",
    "": "pdf_euc_jp_7bit",
    "KSC-EUC": "cp949",
    "KSCpc-EUC": "euc_kr",
    "KSCms-UHC": "cp949",
    "KSCms-UHC-HW": "cp949",
    "KSC-Johab": "johab",
    "KSC": "pdf_euc_kr_7bit",
}
UNICODE_ENCODINGS = {
    "UCS2": "utf-16-be",
    "UTF16": "utf-16-be",
    "UTF8": "utf-8",
    "UTF32": "utf-32-be",
}


def encoding_of(name: str) -> str | None:
    """Return Python's name of a CMap's encoding, None if it has none.

    A CMap for vertical writing has the same codes.
    """
    base, _, direction = name.removeprefix("/").rpartition("-")
    if direction not in ("H", "V"):
        return None
    if base.startswith("Uni"):
        form = base.split("-")[1] if "-" in base else ""
        return UNICODE_ENCODINGS.get(form)
    return ENCODINGS.get(base)


def _seven_bit(encoding: str) -> codecs.CodecInfo:
    """Return a codec of two bytes a character without their highest bits."""

    def decode(data: Buffer, errors: str = "strict", /) -> tuple[str, int]:
        codes = bytes(data)
        return bytes(byte | 0x80 for byte in codes).decode(encoding, errors), len(codes)

    return codecs.CodecInfo(codecs.lookup(encoding).encode, decode)


def _unknown() -> codecs.CodecInfo:
    def decode(data: Buffer, errors: str = "strict", /) -> tuple[str, int]:
        # How many bytes a character has is unknown too; runs become one later.
        return UNKNOWN, len(bytes(data))

    return codecs.CodecInfo(codecs.lookup("ascii").encode, decode)


def _find(name: str) -> codecs.CodecInfo | None:
    if name == "pdf_unknown":
        return _unknown()
    if name.startswith("pdf_") and name.endswith("_7bit"):
        return _seven_bit(name[len("pdf_") : -len("_7bit")])
    return None


codecs.register(_find)
