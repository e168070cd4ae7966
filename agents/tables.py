"""The tables of an agent's run; the columns of ``events`` are those of a supervised run."""

from __future__ import annotations

from sabsim.runs.database import TABLES, Tables

AGENT_TABLES: Tables = {
    "events": TABLES["events"],
    "steps": {
        "step": "INTEGER NOT NULL",
        "stream": "INTEGER NOT NULL",
        "episode": "INTEGER NOT NULL",
        "position": "INTEGER NOT NULL",
        "action": "INTEGER NOT NULL",
        "reward": "REAL NOT NULL",
        "value": "REAL",
        "td_error": "REAL",
        "entropy": "REAL",
        # Numbers and text as the environment tells them.
        "place": "",
        "epoch": "",
        "phase": "",
        "causal_step": "INTEGER",
    },
    "episodes": {
        "stream": "INTEGER NOT NULL",
        "episode": "INTEGER NOT NULL",
        "first_step": "INTEGER NOT NULL",
        "last_step": "INTEGER NOT NULL",
        "return": "REAL NOT NULL",
        "length": "INTEGER NOT NULL",
        "success": "INTEGER",
        "terminated": "INTEGER NOT NULL",
        "truncated": "INTEGER NOT NULL",
    },
    "metrics": {
        "env_steps": "INTEGER NOT NULL",
        "step": "INTEGER NOT NULL",
        "split": "TEXT NOT NULL",
        "episodes": "INTEGER NOT NULL",
        "return": "REAL",
        "length": "REAL",
        "judged": "INTEGER NOT NULL",
        "success": "REAL",
        "td_error": "REAL",
        "entropy": "REAL",
        "replays_per_update": "REAL",
        "updates": "INTEGER",
        "gradient_norm": "REAL",
    },
    "clock": {
        "env_steps": "INTEGER NOT NULL",
        "step": "INTEGER NOT NULL",
        "seconds": "REAL NOT NULL",
        "steps_per_second": "REAL",
        "rss_mb": "REAL NOT NULL",
        "date": "TEXT NOT NULL",
    },
}
