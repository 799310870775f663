"""Extraction of ZIP archives: complete, damaged and malicious ones."""

import random
import stat
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from landseg.core.errors import LandsegError
from landseg.download.zip_archive import extract_archive

pytestmark = pytest.mark.faults

BODY = random.Random(7).randbytes(300_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "downloads" / "a.zip"


def pack(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in members:
            bundle.writestr(name, content)
    return path


def link(name: str, target: str) -> tuple[zipfile.ZipInfo, bytes]:
    member = zipfile.ZipInfo(name)
    member.create_system = 3  # Unix
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member, target.encode()


class TestExtract:
    def test_files_and_folders(self, path: Path, tmp_path: Path) -> None:
        archive = pack(path, ("empty/", b""), ("images/a.tif", BODY), ("train.txt", b"a_0\n"))
        extract_archive(archive, tmp_path / "raw")
        assert (tmp_path / "raw/images/a.tif").read_bytes() == BODY
        assert (tmp_path / "raw/train.txt").read_bytes() == b"a_0\n"
        assert (tmp_path / "raw/empty").is_dir()

    @pytest.mark.parametrize(
        ("member", "fault"),
        [
            (("../evil.txt", b"!"), "by '..'"),
            (("images/../../evil.txt", b"!"), "by '..'"),
            (("images\\..\\..\\evil.txt", b"!"), "by '..'"),
            (("/tmp/evil.txt", b"!"), "absolute"),
            (("C:\\evil.txt", b"!"), "absolute"),
            (link("images/evil.txt", "/etc/passwd"), "link"),
        ],
        ids=["parent", "deeper parent", "backslashes", "absolute", "drive", "link"],
    )
    def test_evil_member(
        self, path: Path, tmp_path: Path, member: tuple[str | zipfile.ZipInfo, bytes], fault: str
    ) -> None:
        archive = pack(path, ("good.txt", b"good"), member)
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(LandsegError, match=rf"^{archive}: member '.*evil\.txt' .*{fault}"):
            extract_archive(archive, tmp_path / "raw")
        assert sorted(tmp_path.rglob("*")) == before

    def test_truncated(self, path: Path, tmp_path: Path) -> None:
        archive = pack(path, ("a.bin", BODY))
        archive.write_bytes(archive.read_bytes()[:150_000])
        with pytest.raises(LandsegError, match=rf"^{archive}: damaged or not a ZIP"):
            extract_archive(archive, tmp_path / "raw")

    @pytest.mark.parametrize("content", [b"", b"<html>Please log in</html>"], ids=["empty", "page"])
    def test_no_zip(self, path: Path, tmp_path: Path, content: bytes) -> None:
        path.parent.mkdir()
        path.write_bytes(content)
        with pytest.raises(LandsegError, match="damaged or not a ZIP"):
            extract_archive(path, tmp_path / "raw")

    def test_missing(self, path: Path, tmp_path: Path) -> None:
        with pytest.raises(LandsegError, match="file not found"):
            extract_archive(path, tmp_path / "raw")

    def test_bad_checksum_of_a_member(self, path: Path, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:  # stored, so that the bytes can be found
            bundle.writestr("a.txt", b"as it was written")
        spoilt = (tmp_path / "a.zip").read_bytes().replace(b"as it was written", b"as it was changed")
        (tmp_path / "a.zip").write_bytes(spoilt)
        with pytest.raises(LandsegError, match=r"Bad CRC-32 for file 'a\.txt'"):
            extract_archive(tmp_path / "a.zip", tmp_path / "raw")

    def test_any_damaged_byte_gives_a_readable_error(self, tmp_path: Path) -> None:
        whole = pack(tmp_path / "a.zip", ("images/a.txt", b"a" * 50), ("b.txt", b"b" * 9)).read_bytes()
        chance = random.Random(11)
        for number in range(150):
            spoilt = bytearray(whole)
            for _ in range(chance.randrange(1, 4)):
                spoilt[chance.randrange(len(spoilt))] = chance.randrange(256)
            (tmp_path / "b.zip").write_bytes(spoilt)
            with suppress(LandsegError):
                extract_archive(tmp_path / "b.zip", tmp_path / "raw" / str(number))

    @pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
    def test_disk_full(self, path: Path, tmp_path: Path) -> None:
        archive = pack(path, ("images/a.tif", bytes(300_000)))
        script = f"""
import resource
from pathlib import Path
from landseg.core.errors import reporting
from landseg.download.zip_archive import extract_archive
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
with reporting():
    extract_archive(Path({str(archive)!r}), Path({str(tmp_path / "raw")!r}))
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert f"error: {tmp_path / 'raw/images/a.tif'}: the file exceeds the size limit; " in done.stderr
        assert "Traceback" not in done.stderr
