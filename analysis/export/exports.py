"""The two exports: an NWB file of one stream, and a folder of tables of all that a run has recorded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import Literal

from sabsim.errors import ConfigError, RunFolderError

from ..folders import Run, read_run
from .output import check_free, publish, workshop
from .session import session, subject
from .snapshot import Snapshot
from .tables import Source
from .writers import Rows, write_csv, write_dictionary, write_json, write_parquet

Progress = Callable[[int], None]


def _silent(rows: int) -> None:
    pass


@dataclass(frozen=True)
class Export:
    """What was written.

    `path`: the file or folder; `rows`: of each series or table by its name, how many rows it has; `missing`: what was left
    out and why; `finished`: whether the run is.
    """

    path: Path
    rows: dict[str, int]
    missing: list[str]
    finished: bool


def export_nwb(
    run: str | Path,
    out: str | Path,
    *,
    stream: int = 0,
    dt: float = 1.0,
    experimenter: str = "sabsim, simulation",
    institution: str = "none (simulation)",
    overwrite: bool = False,
    progress: Progress = _silent,
) -> Export:
    """Write one stream of a run as an NWB file. Needs the extra `nwb`.

    Memory does not grow with the run; a copy of the stream's tables is kept beside `out` meanwhile.

    Arguments:
        run: the run folder, of an agent or a task, finished or not
        out: the file, *.nwb
        stream: which of the recorded streams; each is a subject of its own
        dt: seconds that a step is given; steps have none of their own
        experimenter, institution: what archives ask for
        overwrite: replace `out` if it exists
        progress: called with rows as they are written

    Raises:
        ConfigError: an argument that is not allowed, or the extra is missing
        RunFolderError: no run folder, a damaged one, or one that has recorded nothing of this stream
        StorageError: the disk refuses; nothing is left behind
    """
    path = Path(out)
    if path.suffix != ".nwb":
        raise ConfigError(f"nwb = '{path}': must end with .nwb")
    if not (isfinite(dt) and dt > 0):
        raise ConfigError(f"dt = {dt}: must be more than 0 s")
    need("nwb", "pynwb")
    check_free("nwb", path, overwrite=overwrite, folder=False)
    found = read_run(run)
    _check_stream(found, stream)
    about = session(found, stream=stream, dt=dt, experimenter=experimenter, institution=institution)
    from .nwb import Builder

    with workshop("nwb", path, source=found.path / "run.sqlite") as place:
        with closing(Snapshot(found, stream, place / "scratch.sqlite")) as snapshot:
            if snapshot.last_step() < 0:
                raise RunFolderError(f"'{found.path}': nothing is recorded of stream {stream} yet")
            who = subject(found, stream=stream)
            builder = Builder(snapshot, session=about, subject=who, dt=dt, done=progress)
            builder.write(place / "made.nwb")
        publish(place / "made.nwb", path)
    return Export(path, builder.rows, builder.missing, bool(found.summary))


TABLE_NAMES = ("steps", "replays", "remindings", "episodes", "metrics", "clock", "hidden")
OWN_FILES = frozenset(
    ["config.json", "summary.json", "data_dictionary.csv"]
    + [f"{name}.{kind}" for name in TABLE_NAMES for kind in ("parquet", "csv")]
)
"""All that an export of tables writes; a folder that holds anything else is never replaced."""


def export_tables(
    run: str | Path,
    out: str | Path,
    *,
    kind: Literal["parquet", "csv"],
    overwrite: bool = False,
    progress: Progress = _silent,
) -> Export:
    """Write all that a run has recorded as tidy tables, with a data dictionary, configuration and summary, in a folder.

    Memory does not grow with the run. Parquet needs the extra `parquet`.

    Arguments:
        run: the run folder, of an agent or a task, finished or not
        out: the folder to make
        kind: Parquet or CSV files
        overwrite: replace an earlier export in `out`; a folder that holds anything else never is
        progress: called with rows as they are written

    Raises:
        ConfigError: an argument that is not allowed, or the extra is missing
        RunFolderError: no run folder, or a damaged one
        StorageError: the disk refuses; nothing is left behind
    """
    path = Path(out)
    if kind == "parquet":
        need("parquet", "pyarrow")
    check_free(kind, path, overwrite=overwrite, folder=True, own=OWN_FILES)
    found = read_run(run)
    write = write_parquet if kind == "parquet" else write_csv
    counts = {}
    with workshop(kind, path, source=found.path / "run.sqlite") as place:
        made = place / "tables"
        made.mkdir()
        with closing(Source(found)) as source:
            fields = {name: source.fields(table) for name, table in source.tables.items()}
            for name, table in source.tables.items():
                rows = _told(source.rows(table, fields[name]), progress)
                counts[name] = write(made / f"{name}.{kind}", fields[name], rows)
        write_dictionary(made / "data_dictionary.csv", fields)
        write_json(made / "config.json", found.config)
        if found.summary:
            write_json(made / "summary.json", found.summary)
        publish(made, path)
    missing = [] if "hidden" in counts else ["hidden states: not recorded; train with --record-hidden"]
    return Export(path, counts, missing, bool(found.summary))


def _told(rows: Rows, progress: Progress) -> Rows:
    """The same rows, of which `progress` is told."""
    for batch in rows:
        yield batch
        progress(len(batch))


def need(extra: str, package: str) -> None:
    """Make sure that an extra is installed.

    Raises:
        ConfigError: it is not
    """
    if find_spec(package) is None:
        raise ConfigError(f"{extra}: needs {package}, which is not installed; pip install 'sabsim[{extra}]'")


def _check_stream(run: Run, stream: int) -> None:
    group = run.config.get("run")
    recorded = group.get("record_streams") if isinstance(group, dict) else None
    if not isinstance(recorded, int):
        raise RunFolderError(f"'{run.path / 'config.json'}': run has no record_streams; the file is damaged")
    if recorded == 0:
        raise RunFolderError(f"'{run.path}': no stream is recorded (--record-streams 0)")
    if not 0 <= stream < recorded:
        raise ConfigError(f"stream = {stream}: must be between 0 and {recorded - 1}, the streams that the run recorded")
