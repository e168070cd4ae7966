"""What an NWB file says of the session as a whole: when, of what, by which software, with which configuration."""

from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, datetime
from typing import Any

from sabsim.errors import RunFolderError

from ..folders import Run

SUBJECT = "Simulated agent (software, no animal)"
_METHOD = (
    "Online learning by sparse attentive backtracking in bounded memory (Ke et al. 2017): when a learning signal arrives, "
    "credit jumps to remembered states and is backpropagated a few steps around each of them, a replay."
)
_PAPER = "doi:10.48550/arXiv.1711.02326"


def title(run: Run) -> str:
    """The environment or task with what it is made with."""
    name, given = (run.config.get("env"), run.config.get("env_args")) if run.agent else _task(run)
    options = ", ".join(f"{key} {value}" for key, value in (given or {}).items())
    return f"{name} ({options})" if options else str(name)


def _task(run: Run) -> tuple[Any, Any]:
    return run.config.get("task"), run.config.get("task_options")


def session(run: Run, *, stream: int, dt: float, experimenter: str, institution: str) -> dict[str, Any]:
    """The arguments of `NWBFile` but the subject.

    Raises:
        RunFolderError: `config.json` does not say what made the run and when
    """
    group = run.config.get("run", {})
    what = "An agent learning online in" if run.agent else "A learner trained online on"
    rule = run.config.get("learner", {}).get("credit")
    state = "" if run.summary else " The run was not finished: this is what it had recorded."
    return {
        "session_description": (
            f"{what} {title(run)}: credit rule {rule}, seed {group.get('seed')}, stream {stream} of "
            f"{group.get('streams')}. Simulated: one step is given {dt:g} s, step t is at t * {dt:g} s.{state}"
        ),
        "identifier": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{json.dumps(run.config, sort_keys=True)} {stream}")),
        "session_start_time": _start(run),
        "session_id": _plain(run.path.resolve().name),
        "experiment_description": _METHOD,
        "experimenter": (experimenter,),
        "institution": institution,
        "keywords": ("simulation", "online learning", "credit assignment", "replay"),
        "related_publications": (_PAPER,),
        "was_generated_by": [("sabsim", str(run.config["made_by"].get("sabsim")))],
        "notes": json.dumps({"config": run.config, "summary": run.summary}),
    }


def subject(run: Run, *, stream: int) -> dict[str, Any]:
    """The arguments of `Subject`."""
    return {
        "subject_id": f"sabsim-{_plain(run.path.resolve().name)}-stream{stream}",
        "description": SUBJECT,
        # NWB wants two Latin words, a sex and an age; software has none, and these say nothing else.
        "species": "Simulated agent",
        "sex": "U",
        "age": "P0D",
    }


def _start(run: Run) -> datetime:
    maker = run.config.get("made_by")
    try:
        start = datetime.fromisoformat(maker["date"])  # type: ignore[index]
    except (KeyError, TypeError, ValueError) as error:
        where = run.path / "config.json"
        raise RunFolderError(f"'{where}': does not say when the run began; the file is damaged") from error
    return start if start.tzinfo else start.replace(tzinfo=UTC)


def _plain(name: str) -> str:
    """A name that archives take."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-") or "run"
