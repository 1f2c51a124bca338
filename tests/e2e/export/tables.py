"""Reads the tables of an export with DuckDB and with pyarrow, and prints counts and sums as JSON."""

import glob
import json
import os
import sys

import duckdb
import pyarrow.compute as pc
import pyarrow.parquet as pq

directory = sys.argv[1]
rows, names, arrow = {}, {}, {}
for path in sorted(glob.glob(f"{directory}/*.parquet")):
    name = os.path.basename(path).removesuffix(".parquet")
    table = pq.read_table(path)
    rows[name] = table.num_rows
    arrow[name] = table
    names[name] = [[field.name, str(field.type), field.nullable] for field in table.schema]
    [(counted,)] = duckdb.sql(f"select count(*) from '{path}'").fetchall()
    assert counted == table.num_rows, (name, counted, table.num_rows)
    groups = pq.ParquetFile(path).metadata
    assert all(groups.row_group(i).num_rows <= 1 << 16 for i in range(groups.num_row_groups))


def one(query):
    [row] = duckdb.sql(query.replace("FROM ", f"FROM '{directory}/")).fetchall()
    return row


calls = arrow["syscalls"]
duration, failed, bytes_moved, errors = one(
    "SELECT sum(duration_ns), count(*) FILTER (failed), sum(bytes), count(errno) FROM syscalls.parquet'"
)
assert duration == pc.sum(calls["duration_ns"]).as_py()
assert pc.sum(calls["failed"]).as_py() == failed
by_name = dict(
    duckdb.sql(f"select name, count(*) from '{directory}/syscalls.parquet' group by 1").fetchall()
)
start, offset = one("SELECT epoch_ns(min(time)), min(t_ns) FROM syscalls.parquet'")
(began,) = one("SELECT epoch_ns(start) FROM trace.parquet'")
print(
    json.dumps(
        {
            "rows": rows,
            "columns": names,
            "duration_ns": int(duration),
            "failed": failed,
            "bytes": int(bytes_moved or 0),
            "errors": errors,
            "by_name": by_name,
            "counted": int(one("SELECT coalesce(sum(count), 0) FROM aggregates.parquet'")[0]),
            "lost": int(one("SELECT coalesce(sum(count), 0) FROM losses.parquet'")[0]),
            "start_ns": [start - offset, began],
            "paths": one("SELECT count(*) FROM syscalls.parquet' where path like '%missing-%'")[0],
        }
    )
)
