"""Trees, tarballs and versions: what is given stays as it was, and what is made follows it."""

import os
import subprocess
from pathlib import Path

import pytest

from oracle import needs
from oracle.build import WANTED, check_config
from oracle.source import find_source, kernel_version
from tests.oracle.kernel import FILES, tree


def test_a_relative_work_folder_is_where_the_caller_stands(tmp_path, monkeypatch):
    """make is called in the tree: `O=build/oracle/...` would build in a folder below it."""
    monkeypatch.chdir(tmp_path)
    source = find_source(tree(tmp_path / "linux"), Path("build/oracle"))
    assert source.work.is_absolute()
    assert source.work.is_relative_to(tmp_path / "build" / "oracle")
    assert source.build.is_absolute()


def test_a_tree_is_copied_and_its_copy_follows(tmp_path):
    given = tree(tmp_path / "linux")
    (given / "vmlinux").write_text("built")
    (given / "mm" / "old.c").write_text("gone soon")
    source = find_source(given, tmp_path / "work")
    assert source.version == "9.1.0-rc3"
    assert (source.tree / "mm" / "oracle_run.c").exists()
    assert not (source.tree / "vmlinux").exists()
    assert {str(path.relative_to(given)) for path in given.rglob("*.[ch]")} - {"mm/old.c"} < set(FILES)
    assert "oracle" not in (given / "mm" / "page_alloc.c").read_text()

    (given / "mm" / "old.c").unlink()
    text = FILES["mm/page_alloc.c"] + "int changed;\n"
    (given / "mm" / "page_alloc.c").write_text(text)
    before = {path: path.stat().st_mtime_ns for path in source.tree.rglob("*") if path.is_file()}
    again = find_source(given, tmp_path / "work")
    assert again.tree == source.tree
    assert "int changed;" in (again.tree / "mm" / "page_alloc.c").read_text()
    assert not (again.tree / "mm" / "old.c").exists()
    after = {path: path.stat().st_mtime_ns for path in source.tree.rglob("*") if path.is_file()}
    assert {path.name for path in after if after[path] != before[path]} == {"page_alloc.c"}


def test_a_tarball_is_unpacked_once(tmp_path):
    tree(tmp_path / "linux-9.1")
    archive = tmp_path / "linux-9.1.tar.gz"
    subprocess.run(["tar", "-czf", archive, "-C", tmp_path, "linux-9.1"], check=True)
    said: list[str] = []
    source = find_source(archive, tmp_path / "work", said.append)
    assert said == [f"unpacking {archive}"]
    assert "oracle_pcp_held" in (source.tree / "mm" / "page_alloc.c").read_text()
    find_source(archive, tmp_path / "work", said.append)
    assert len(said) == 1


def test_what_is_no_kernel_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such kernel tree"):
        find_source(tmp_path / "nothing", tmp_path / "work")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"not a kernel tree: no mm/page_alloc\.c"):
        find_source(tmp_path / "empty", tmp_path / "work")
    (tmp_path / "notes.txt").write_text("no tarball")
    with pytest.raises(ValueError, match="not a kernel tree, a"):
        find_source(tmp_path / "notes.txt", tmp_path / "work")
    (tmp_path / "broken.tar.gz").write_bytes(os.urandom(100))
    with pytest.raises(ValueError, match="no kernel tree in it"):
        find_source(tmp_path / "broken.tar.gz", tmp_path / "work")
    assert not list((tmp_path / "work").glob("*/tree"))


def test_versions():
    assert kernel_version("VERSION = 7\nPATCHLEVEL = 2\nSUBLEVEL = 13\nEXTRAVERSION =\n") == "7.2.13"
    assert kernel_version(FILES["Makefile"]) == "9.1.0-rc3"
    with pytest.raises(ValueError, match="no kernel version"):
        kernel_version("all:\n")


def test_what_is_missing_is_named_by_package():
    there = {"gcc", "make", "bc"}.__contains__
    words = (
        "not on this machine: flex, bison, libelf.h (packages of Debian and Ubuntu: flex bison libelf-dev)"
    )
    with pytest.raises(FileNotFoundError) as error:
        needs.check(needs.FOR_BUILDING, there)
    assert str(error.value) == words
    with pytest.raises(FileNotFoundError, match=r"qemu-system-x86_64 .*: qemu-system-x86"):
        needs.check(needs.FOR_RECORDING, there)
    needs.check(needs.FOR_BUILDING, lambda what: True)


def test_a_configuration_that_came_out_otherwise_is_refused():
    good = "".join(f"CONFIG_{name}=y\n" for name in WANTED)
    check_config(good)
    with pytest.raises(ValueError, match=r"cannot be configured with CONFIG_NUMA$"):
        check_config(good.replace("CONFIG_NUMA=y", "# CONFIG_NUMA is not set"))
    with pytest.raises(ValueError, match="without CONFIG_DEBUG_PAGEALLOC"):
        check_config(good + "CONFIG_DEBUG_PAGEALLOC=y\n")
