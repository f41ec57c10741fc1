"""Recorded runs that contradict themselves are refused with the reason, and nothing is read past its end."""

import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asi_pa.arrays import read_arrays
from asi_pa.verify import verify_file
from asi_pa.verify.recording import read_recording
from tests.verify.cut_recorded_run import DATA, write


def committed(stem):
    return next(DATA.rglob(f"{stem}.npz"))


def arrays_of(stem):
    """The arrays of a committed run, writable, and its header."""
    with np.load(committed(stem)) as data:
        arrays = {name: np.array(data[name], order="C") for name in data.files}
    return arrays, json.loads(str(arrays.pop("meta")))


def save(path, arrays, meta):
    write(path, {"meta": np.array(json.dumps(meta)), **arrays})
    return path


def refused(tmp_path, arrays, meta, why):
    with pytest.raises(ValueError, match=why):
        read_recording(save(tmp_path / "bad.npz", arrays, meta))


def rows(arrays, code):
    return np.flatnonzero(arrays["ops"][:, 0] == code)


# ---------------------------------------------------------------- the file


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04", b"not a zip file at all", b"\x93NUMPY\x01\x00"],
    ids=["empty", "stub", "text", "npy"],
)
def test_what_is_no_npz_is_refused(tmp_path, content):
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(ValueError, match="not an intact"):
        read_recording(tmp_path / "bad.npz")


def test_every_truncation_is_refused(tmp_path):
    whole = committed("Rx-a1").read_bytes()
    for n in range(0, len(whole), 37):
        (tmp_path / "bad.npz").write_bytes(whole[:n])
        with pytest.raises(ValueError, match="not an intact"):
            read_recording(tmp_path / "bad.npz")


def npz_with(path, name, content, method=zipfile.ZIP_DEFLATED):
    arrays, meta = arrays_of("Rx-a1")
    save(path, arrays, meta)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for member, text in (members | {f"{name}.npy": content}).items():
            archive.writestr(member, text)
    return path


def npy(array, **changes):
    text = io.BytesIO()
    header = np.lib.format.header_data_from_array_1_0(array) | changes
    np.lib.format.write_array_header_1_0(text, header)
    return text.getvalue() + array.tobytes()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (npy(np.zeros((3, 5), np.int32), shape=(10**9, 5)), "has 60 bytes, not 20000000000"),
        (npy(np.zeros((3, 5), np.int32), shape=(2, 5)), "has 60 bytes, not 40"),
        (npy(np.zeros((3, 5), np.int32), shape=(-3, 5)), "negative"),
        (npy(np.zeros((3, 5), np.int32), shape=(-3, -5)), "negative"),
        (npy(np.zeros(3, np.int64), descr="|O"), "Python objects"),
        (npy(np.zeros((3, 5), np.int32), descr="<i3"), "not an intact"),
        (b"\x93NUMPY\x03\x00" + npy(np.zeros((3, 5), np.int32))[8:], "version"),
        (b"", "not an intact"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "not an intact"),
    ],
)
def test_arrays_unlike_their_own_headers_are_refused(tmp_path, content, why):
    with pytest.raises(ValueError, match=why):
        read_recording(npz_with(tmp_path / "bad.npz", "ops", content))


def test_other_compressions_are_refused(tmp_path):
    content = npy(np.zeros((3, 5), np.int32))
    with pytest.raises(ValueError, match="compressed by method"):
        read_recording(npz_with(tmp_path / "bad.npz", "ops", content, zipfile.ZIP_BZIP2))


def test_arrays_come_as_they_were_written(tmp_path):
    arrays = {"a": np.arange(12, dtype=np.int32).reshape(3, 4), "b": np.array("text"), "c": np.zeros((0, 5))}
    write(tmp_path / "a.npz", arrays)
    read = read_arrays(tmp_path / "a.npz", arrays)
    assert read.keys() == arrays.keys()
    assert all(np.array_equal(read[name], arrays[name]) for name in arrays)
    assert read_arrays(tmp_path / "a.npz", ("a",)).keys() == {"a"}
    np.savez_compressed(tmp_path / "b.npz", a=arrays["a"])
    assert np.array_equal(read_arrays(tmp_path / "b.npz", "a")["a"], arrays["a"])


def test_arrays_of_the_other_byte_order_are_the_same(tmp_path):
    arrays, meta = arrays_of("Rx-a1")
    turned = {name: a.astype(a.dtype.newbyteorder()) for name, a in arrays.items()}
    path = save(tmp_path / "turned.npz", turned, meta)
    assert all(a.dtype.isnative for a in read_arrays(path, tuple(turned)).values())
    assert verify_file(path).exact


@pytest.mark.parametrize("name", ["ops", "res", "dump_at", "dump_off", "dumps"])
def test_missing_arrays_and_wrong_types(tmp_path, name):
    arrays, meta = arrays_of("D7p-1")
    refused(tmp_path, arrays | {name: arrays[name].astype(np.int64)}, meta, f"{name!r} is int64, not int32")
    refused(tmp_path, arrays | {name: arrays[name].astype(float)}, meta, f"{name!r} is float64, not int32")
    refused(tmp_path, arrays | {name: arrays[name].reshape(-1, 1, 1)}, meta, f"{name!r} has shape")
    refused(tmp_path, arrays | {name: np.zeros((), np.int32)}, meta, f"{name!r} has shape")
    refused(tmp_path, {key: a for key, a in arrays.items() if key != name}, meta, f"{name!r} is missing")


@pytest.mark.parametrize("name", ["ops", "res"])
def test_tables_of_unlike_lengths(tmp_path, name):
    arrays, meta = arrays_of("D7p-1")
    refused(tmp_path, arrays | {name: arrays[name][:-1]}, meta, "operations")
    refused(tmp_path, arrays | {name: arrays[name][:, :3]}, meta, "has shape")
    refused(tmp_path, arrays | {name: arrays[name][:0]}, meta, "operations")


# ---------------------------------------------------------------- the header


@pytest.mark.parametrize(
    ("stem", "changes", "why"),
    [
        ("D3n-1", {"spanned": 16383}, "pageblocks|outside the zone"),
        ("D3n-1", {"spanned": 32768}, "has 32 pageblocks, not 64"),
        ("D3n-1", {"spanned": 0}, "spanned 0 is not in"),
        ("D3n-1", {"spanned": 1 << 40}, "spanned"),
        ("D3n-1", {"spanned": "16384"}, "'16384', not a whole number"),
        ("D3n-1", {"spanned": 16384.0}, "not a whole number"),
        ("D3n-1", {"spanned": True}, "not a whole number"),
        ("D3n-1", {"managed": 16000}, "says managed 16384, the header 16000"),
        ("D3n-1", {"pageblock_order": {}}, "not a whole number"),
        ("D3n-1", {"pageblock_order": 11}, "above max_page_order"),
        ("D3n-1", {"pageblock_order": 8}, "pageblocks"),
        ("D3n-1", {"max_page_order": 9}, "impossible order"),
        ("D3n-1", {"max_page_order": 16}, "max_page_order 16 is not in"),
        ("D3n-1", {"migrate_types": 7}, "7 migratetypes"),
        ("D3n-1", {"nr_pcp_lists": 13}, "13 pcp lists"),
        ("D3n-1", {"mt_cma": 5}, "mt_cma is 5"),
        ("D3n-1", {"nofragment": 2}, "nofragment 2"),
        ("D3n-1", {"stat_threshold": 3}, "stat_threshold"),
        ("D3n-1", {"stat_threshold": -1}, "stat_threshold -1"),
        ("D3n-1", {"boost_factor": -1}, "boost_factor -1"),
        ("D3n-1", {"nr_cpus": 0}, "nr_cpus 0"),
        ("D3n-1", {"nr_cpus": 2}, "further CPUs"),
        ("D3n-1", {"nr_cpus": 1 << 20}, "nr_cpus"),
        ("D3n-1", {"pcp_batch_scale_max": 63}, "pcp_batch_scale_max 63"),
        ("D3n-1", {"pcp_bypassed": 1}, "pcp_bypassed is 1, not true or false"),
        ("D3n-1", {"as_posted_flags": [1]}, "as_posted_flags is"),
        ("D3n-1", {"kernel": True}, "kernel is True, not a text"),
        ("D3n-1", {"kernel": "5.10.7"}, "unknown kernel '5.10.7'"),
        ("D3n-1", {"kernel": "7.2.13 + design of the March 2025 RFC"}, "migratetypes"),
        ("D3n-1", {"name": "two\nlines"}, "name is"),
        ("D3n-1", {"n_ops": 12}, "meta says 12 operations"),
        ("D3n-1", {"zone2_spanned": 512, "zone2_start_pfn": 0}, "before the first operation"),
        ("D3n-1", {"cma_start": 0, "cma_pages": 512}, "cma_pages"),
        ("D3n-1", {"holes": [[0, 5]]}, "holes"),
        ("D7p-1", {"cma_start": 16380}, "CMA range"),
        ("D7p-1", {"cma_start": 65536}, "CMA range"),
        ("D7p-1", {"cma_pages": 4095}, "CMA range"),
        ("D7p-1", {"cma_pages": -512}, "cma_pages -512"),
        ("D7p-1", {"cma_start": 0, "cma_pages": 65536}, "cma_pages"),
        ("D9-1", {"zone2_spanned": 0}, "of zone 1, the header has 1|request flags|outside the zone"),
        ("D9-1", {"zone2_managed": 7}, "managed"),
        ("D10-1", {"holes": [[0, 1]]}, "holes"),
        ("D11-1", {"nr_cpus": 3}, "CPU|further CPUs"),
        ("Rx-a1", {"kernel": "7.2.13"}, "7 migratetypes"),
        ("Rx-a1", {"zeroed_pages": -2}, "zeroed_pages"),
    ],
)
def test_headers_that_contradict_the_rest(tmp_path, stem, changes, why):
    arrays, meta = arrays_of(stem)
    refused(tmp_path, arrays, meta | changes, why)


@pytest.mark.parametrize("key", ["zone_start_pfn", "spanned", "kernel", "pcp_bypassed", "nr_cpus", "name"])
def test_headers_without_a_key(tmp_path, key):
    arrays, meta = arrays_of("D3n-1")
    del meta[key]
    refused(tmp_path, arrays, meta, key)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", "null", "[" * 100_000, '{"a": 1e', '{"spanned": ' + "9" * 5000]
)
def test_headers_that_are_not_json(tmp_path, text):
    arrays, _ = arrays_of("Rx-a1")
    write(tmp_path / "bad.npz", {"meta": np.array(text), **arrays})
    with pytest.raises(ValueError, match=r"meta is not|meta: "):
        read_recording(tmp_path / "bad.npz")


def test_headers_that_are_not_text(tmp_path):
    arrays, meta = arrays_of("Rx-a1")
    for odd in (
        np.array([json.dumps(meta)]),
        np.arange(3, dtype=np.int32),
        np.array(json.dumps(meta).encode()),
    ):
        write(tmp_path / "bad.npz", {"meta": odd, **arrays})
        with pytest.raises(ValueError, match="not one text"):
            read_recording(tmp_path / "bad.npz")


# ---------------------------------------------------------------- operations


@pytest.mark.parametrize(
    ("stem", "code", "column", "value", "why"),
    [
        ("D8-1", 1, 0, 3, "unknown code"),
        ("D8-1", 1, 0, -1, "unknown code"),
        ("D8-1", 1, 1, 11, "impossible order"),
        ("D8-1", 1, 1, -1, "impossible order"),
        ("D8-1", 1, 2, 3, "unknown request flags"),
        ("D8-1", 1, 2, 256, "unknown request flags"),
        ("D8-1", 1, 2, -1, "unknown request flags"),
        ("D9-1", 1, 2, 512, "unknown request flags"),
        ("Rx-a1", 1, 2, 1024, "unknown request flags"),
        ("D8-1", 2, 3, -1, "frees a later operation, or none"),
        ("D8-1", 2, 3, 1 << 30, "frees a later operation, or none"),
        ("D8-1", 7, 1, 0, "mode"),
        ("D8-1", 7, 3, -1, "range is not inside"),
        ("D8-1", 7, 4, 16385, "range is not inside"),
        ("D8-1", 7, 4, 0, "range is not inside"),
        ("D8-1", 8, 4, 1 << 30, "range is not inside"),
        ("D7p-1", 9, 3, 1 << 30, "range is not inside"),
        ("D7p-1", 9, 1, 2, "for CMA"),
        ("D6-1", 11, 2, 3, "reserve cannot become that type"),
        ("D6-1", 11, 3, 2, "forced"),
        ("R4h-1", 11, 4, 4, "reserve cannot become that type"),
        ("R4h-1", 11, 4, 1 << 20, "reserve cannot become that type"),
        ("R4r-1", 16, 3, 7, "list is not one of the 7"),
        ("R4r-1", 16, 3, -1, "list is not one of the 7"),
        ("R4r-1", 16, 4, 11, "impossible order"),
        ("D11-1", 1, 5, 4, "CPU is not in 0..3"),
        ("D11-1", 2, 5, -1, "CPU is not in 0..3"),
    ],
)
def test_operations_that_cannot_be(tmp_path, stem, code, column, value, why):
    arrays, meta = arrays_of(stem)
    row = int(rows(arrays, code)[0])
    arrays["ops"][row, column] = value
    refused(tmp_path, arrays, meta, f"operation {row} .*{why}")


def test_frees_of_what_was_never_allocated(tmp_path):
    arrays, meta = arrays_of("D5s-1")
    frees = rows(arrays, 2)
    of = arrays["ops"][frees, 3]

    def changed(row, target):
        ops = arrays["ops"].copy()
        ops[row, 3] = target
        return arrays | {"ops": ops}

    refused(tmp_path, changed(frees[1], of[0]), meta, f"operation {frees[1]} .*: frees what is freed already")
    refused(tmp_path, changed(frees[0], frees[0]), meta, "frees a later operation, or none")
    refused(tmp_path, changed(frees[1], frees[0]), meta, "frees an operation that allocates nothing")
    failed = rows(arrays, 1)[arrays["res"][rows(arrays, 1), 0] == -1][0]
    late = frees[frees > failed][0]
    refused(
        tmp_path, changed(late, failed), meta, f"operation {late} frees what operation {failed} did not get"
    )


@pytest.mark.parametrize("value", [-2, 16384, 16383, 1 << 30, -(1 << 31)])
def test_results_outside_the_zone(tmp_path, value):
    arrays, meta = arrays_of("D8-1")
    row = int(np.flatnonzero((arrays["ops"][:, 0] == 1) & (arrays["ops"][:, 1] > 0))[0])
    arrays["res"][row, 0] = value
    refused(tmp_path, arrays, meta, f"operation {row}: the result {value} is outside the zone")


# ---------------------------------------------------------------- dumps


def word(arrays, k, index, value):
    dumps = arrays["dumps"].copy()
    dumps[arrays["dump_off"][k] + index] = value
    return arrays | {"dumps": dumps}


@pytest.mark.parametrize(
    ("index", "value", "why"),
    [
        (0, 7, "dump 1 does not begin with the magic word"),
        (1, 7, "dump 1 says 7 operations, the index"),
        (2, 7, "dump 1 says 7 words, there are"),
        (3, 17, "dump 1 has 17 counters, not 18"),
        (4, 1, "dump 1 says NR_FREE_PAGES 1, what it lists makes"),
        (5, 1, "says NR_FREE_CMA_PAGES 1"),
        (6, -1, "has nr_reserved_highatomic -1"),
        (7, 1, "says nr_free_highatomic 1"),
        (8, -5, "has watermark_boost -5"),
        (9, 64, "has zone flags 64"),
        (11, 1, "says WMARK_LOW 1, the first dump"),
        (14, 9, "says lowmem_reserve 9, the first dump"),
        (17, 5, "says stat_threshold 5, the header"),
        (18, 5, "says managed 5, the header"),
        (19, 5, "says cma_pages 5, the header"),
        (20, 5, "says nr_isolate_pageblock 5"),
        (21, 1, "dump 1 is of zone 1, the header has 1"),
        (21, -1, "dump 1 is of zone -1"),
        (22, 12, "dump 1 has 12 orders, not 11"),
        (23, 5, "dump 1 has 5 free lists for each order, not 6"),
        (24, 9999, "says nr_free 9999 at order 0"),
        (25, -1, "says -1 entries of free list"),
        (25, 1 << 30, "entries of free list"),
    ],
)
def test_dumps_that_contradict_header_or_themselves(tmp_path, index, value, why):
    arrays, meta = arrays_of("D5s-1")
    refused(tmp_path, word(arrays, 1, index, value), meta, why)


def first_list(arrays, k):
    """Index in dump ``k`` of the length of the first free list that is not empty."""
    dump = arrays["dumps"][arrays["dump_off"][k] :]
    at = 24
    for _ in range(11):
        at += 1
        for _ in range(6):
            if dump[at]:
                return at
            at += 1
    raise AssertionError("nothing is free")


def behind_blocks(arrays, k):
    """Index in dump ``k`` of the first CPU's pcp fields."""
    dump = arrays["dumps"][arrays["dump_off"][k] :]
    at = 24
    for _ in range(11):
        at += 1
        for _ in range(6):
            at += 1 + dump[at]
    return at + 1 + dump[at]


@pytest.mark.parametrize("frame", [-1, 16384, 1 << 20, (1 << 31) - 1])
def test_free_lists_with_frames_outside_the_zone(tmp_path, frame):
    arrays, meta = arrays_of("D5s-1")
    at = first_list(arrays, 1)
    refused(
        tmp_path, word(arrays, 1, at + 1, frame), meta, f"lists frame {frame}, which lies outside the zone"
    )


def test_pcp_parts_of_dumps(tmp_path):
    arrays, meta = arrays_of("D5s-1")
    at = behind_blocks(arrays, 1)
    refused(tmp_path, word(arrays, 1, at - 1, 6), meta, "pageblock whose type")
    refused(tmp_path, word(arrays, 1, at - 1, -1), meta, "pageblock whose type")
    refused(tmp_path, word(arrays, 1, at, 7), meta, "has 7 pcp fields, not 8")
    refused(tmp_path, word(arrays, 1, at + 1, 7), meta, "says 7 pages on the pcp lists of CPU 0")
    for field, value in ((2, -1), (5, 0), (6, 4), (7, -1), (8, -1)):
        refused(tmp_path, word(arrays, 1, at + field, value), meta, "pcp")
    refused(tmp_path, word(arrays, 1, at + 3, 1), meta, "says pcp high_min 1 of CPU 0, the first dump")
    refused(tmp_path, word(arrays, 1, at + 9, 13), meta, "has 13 pcp lists, not 14")
    first = at + 10
    while arrays["dumps"][arrays["dump_off"][1] + first] == 0:
        first += 1
    refused(
        tmp_path, word(arrays, 1, first + 1, 16384), meta, "lists frame 16384, which lies outside the zone"
    )
    refused(tmp_path, word(arrays, 1, first, 1 << 29), meta, "entries of pcp list")
    frame = arrays["dumps"][arrays["dump_off"][1] + first_list(arrays, 1) + 1]
    refused(tmp_path, word(arrays, 1, first + 1, frame), meta, f"lists frame {frame} twice")


def test_misaligned_blocks_in_dumps(tmp_path):
    arrays, meta = arrays_of("D3n-1")
    at = first_list(arrays, 0)
    refused(tmp_path, word(arrays, 0, at + 1, 3), meta, "lists frame 3, which is not aligned")


def test_mapped_flags_of_dumps(tmp_path):
    arrays, meta = arrays_of("Rx-a1")
    end = int(arrays["dump_off"][1]) - 1
    refused(tmp_path, word(arrays, 0, end, 2), meta, "mapped flag")
    refused(tmp_path, word(arrays, 0, end - 32, 31), meta, "31 mapped flags, not 32")


def test_further_cpus_in_dumps(tmp_path):
    arrays, meta = arrays_of("D11-1")
    end = int(arrays["dump_off"][1])
    lists = end - 14  # of the last CPU, all empty at the start
    refused(tmp_path, word(arrays, 0, end - 1, 1), meta, "entries of pcp list")
    refused(tmp_path, word(arrays, 0, lists - 1, 15), meta, "15 pcp lists, not 14")
    refused(tmp_path, word(arrays, 0, lists - 12, 1), meta, "NR_FREE_PAGES")


def test_positions_of_dumps(tmp_path):
    arrays, meta = arrays_of("D3n-1")

    def changed(name, k, value):
        array = arrays[name].copy()
        array[k] = value
        return arrays | {name: array}

    refused(tmp_path, changed("dump_at", 1, 5), meta, "dump 1 says")
    refused(tmp_path, changed("dump_at", 0, 1), meta, "before the first operation")
    refused(tmp_path, changed("dump_at", -1, 1 << 30), meta, "of [0-9]+ operations")
    refused(tmp_path, changed("dump_at", 1, -1), meta, "order of the operations")
    refused(tmp_path, changed("dump_off", 0, 3), meta, "first dump begins at word 3")
    refused(tmp_path, changed("dump_off", 1, -5), meta, "words 0 to -5")
    refused(tmp_path, changed("dump_off", 1, 1 << 30), meta, "words 0 to")
    refused(tmp_path, arrays | {"dump_off": arrays["dump_off"][:-1]}, meta, "dump positions")
    refused(tmp_path, arrays | {"dumps": arrays["dumps"][:-9]}, meta, "words, there are")
    none = {name: arrays[name][:0] for name in ("dump_at", "dump_off")}
    refused(tmp_path, arrays | none, meta, "no dump of the state before")


def test_an_operation_that_dumps_has_a_dump(tmp_path):
    arrays, meta = arrays_of("Rx-a1")
    arrays["ops"][int(rows(arrays, 1)[0])] = (5, 0, 0, 0, 0)
    refused(tmp_path, arrays, meta, "is a dump, there is none at that point|allocates nothing")


def test_events_belong_to_designs_that_protect(tmp_path):
    arrays, meta = arrays_of("Rx-c1")
    refused(tmp_path, {k: a for k, a in arrays.items() if k != "events"}, meta, "without resx and events")
    refused(tmp_path, {k: a for k, a in arrays.items() if k != "resx"}, meta, "without resx and events")
    refused(tmp_path, arrays | {"resx": arrays["resx"][:-1]}, meta, "rows of resx")
    refused(tmp_path, arrays | {"events": arrays["events"][:-1]}, meta, "resx counts")
    odd = arrays["events"].copy()
    odd[0, 0] = len(arrays["ops"])
    refused(tmp_path, arrays | {"events": odd}, meta, "order of the operations")
    plain, header = arrays_of("D3n-1")
    refused(tmp_path, plain | {"resx": np.zeros((len(plain["ops"]), 8), np.int32)}, header, "has no events")


# ---------------------------------------------------------------- whatever else


RAW = {stem: committed(stem).read_bytes() for stem in ("Rx-a1", "Sx-c1")}


def outcome(path):
    """A verdict, or the reason why there is none."""
    try:
        return verify_file(path)
    except ValueError as error:
        return str(error)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    st.sampled_from(sorted(RAW)),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_damaged_files_are_refused_or_replayed(tmp_path_factory, stem, damage):
    content = bytearray(RAW[stem])
    for where, value in damage:
        content[int(where * (len(content) - 1))] = value
    path = tmp_path_factory.mktemp("damaged") / "bad.npz"
    path.write_bytes(content)
    assert outcome(path)


ODD = [0, 1, -1, 2, 8, 9, 10, 11, 511, 512, 513, 4096, 16383, 16384, 1 << 30, -(1 << 31), (1 << 31) - 1]


def shortened(stem, operations=500):
    """The first operations of a run with no dump but the first, so that many replays take little time."""
    arrays, meta = arrays_of(stem)
    zones = 2 if meta.get("zone2_spanned") else 1
    if operations < len(arrays["ops"]):
        end = arrays["dump_off"][zones]
        arrays = {name: arrays[name][:operations] for name in ("ops", "res")} | {
            "dump_at": arrays["dump_at"][:zones],
            "dump_off": arrays["dump_off"][:zones],
            "dumps": arrays["dumps"][:end],
        }
        meta["n_ops"] = operations
    return arrays, meta


SMALL = {stem: shortened(stem) for stem in ("Rx-a1", "Rx-c1", "Sx-g2", "D7p-1", "D8-1", "D9-1", "D11-1")}


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.data())
def test_changed_numbers_are_refused_or_replayed(tmp_path_factory, data):
    arrays, meta = (dict(part) for part in SMALL[data.draw(st.sampled_from(sorted(SMALL)))])
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(["ops", "ops", "dumps", "res", "dump_at", "dump_off", "meta"]))
        if name == "meta":
            key = data.draw(st.sampled_from(sorted(meta)))
            meta[key] = data.draw(st.sampled_from([*ODD, None, True, "", [], {}, 1.5, "7.2"]))
            continue
        array = arrays[name] = arrays[name].copy()
        if array.size:
            flat = array.reshape(-1)
            at = data.draw(st.integers(0, len(flat) - 1))
            near = [int(np.clip(int(flat[at]) + by, -(1 << 31), (1 << 31) - 1)) for by in (-2, -1, 1, 2)]
            flat[at] = data.draw(st.sampled_from(ODD + near))
    found = outcome(save(tmp_path_factory.mktemp("changed") / "bad.npz", arrays, meta))
    assert found
    assert "\n" not in str(found)
