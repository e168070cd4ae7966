"""The report: one HTML file that tells what a run's replay does, and lets an episode be explored, without a network."""

from .moments import Arc, Moments, Reading, Series, of_episode
from .page import write_report
from .parts import Answer, Missing, NumberTable, Panel, Story
from .recorded_episode import recorded_moments
from .story import tell

__all__ = [
    "Answer",
    "Arc",
    "Missing",
    "Moments",
    "NumberTable",
    "Panel",
    "Reading",
    "Series",
    "Story",
    "of_episode",
    "recorded_moments",
    "tell",
    "write_report",
]
