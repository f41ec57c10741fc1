"""Sets of nodes as an axis of a sweep, and folders begun otherwise: refused, or of an older version."""

from __future__ import annotations

import json

import pytest

import asi_pa


def meta(folder):
    return json.loads((folder / "meta.json").read_text())


def test_nodes_are_an_axis(tmp_path):
    """A row for each set of nodes, as many as were recorded by another name; one is as without."""
    (tmp_path / "n.toml").write_text(
        'traces = "stress:96M"\ndesigns = "linux"\nnodes = ["recorded", 2, "0-1/"]\n'
    )
    found = asi_pa.sweep(tmp_path / "n.toml", folder=tmp_path / "n", executor="here")
    assert found.complete
    frame = found.to_pandas().set_index("nodes")
    assert list(frame.index) == ["1", "2", "0-1/"]
    assert frame.numa_miss.isna().tolist() == [True, False, False]
    assert [row[0] for row in found.summary("numa_miss").rows] == [
        f"stress:96M, ample, nodes {nodes}, linux" for nodes in frame.index
    ]
    assert [point["nodes"] for point in meta(tmp_path / "n")["points"]] == list(frame.index)
    one = asi_pa.sweep("stress:96M", "linux", nodes="1", executor="here")
    assert one.records()[0] == found.records()[0]
    same = asi_pa.replay(
        "stress:96M", "linux", nodes=2, memory="ample", reclaim=None, compaction=True, samples=2
    )
    assert same.records()[0] | {"trace": "stress:96M", "classifier": "rfc"} == found.records()[1]


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ([1, "recorded"], "nodes 1, recorded: two mean 1"),
        ([2, 2], "nodes: one of them twice"),
        (9, "nodes 9: a machine has 1 to 8"),
        (True, "nodes: True is not str or int"),
        (3, "the machine has 2 CPUs"),
    ],
)
def test_nodes_that_cannot_be(nodes, says):
    with pytest.raises(ValueError, match=says):
        asi_pa.sweep("stress:96M", "linux", nodes=nodes, executor="here")


def test_a_folder_of_a_refused_sweep_can_be_used(tmp_path):
    with pytest.raises(ValueError, match="unknown design"):
        asi_pa.sweep("bulk:32M", "linx", folder=tmp_path / "sweep", executor="here")
    assert asi_pa.sweep("bulk:32M", "linux", folder=tmp_path / "sweep", executor="here").complete


def test_rows_of_a_version_that_had_a_column_less(tmp_path):
    """A column that came later is empty; a file that does not say which point it is of is damaged."""
    import pyarrow.parquet as pq

    folder = tmp_path / "sweep"
    found = asi_pa.sweep("bulk:32M", "linux", memory=["ample", "48M"], folder=folder, executor="here")
    first, second = (folder / "points" / f"{point['key']}.parquet" for point in meta(folder)["points"])
    for path, gone in ((first, "nodes"), (second, "design")):
        pq.write_table(pq.read_table(path).drop_columns([gone]), path)
    again = asi_pa.load_sweep(folder)
    assert again.records() == [found.records()[0] | {"nodes": None}]
    assert [missing.memory for missing in again.missing] == ["48M"]
