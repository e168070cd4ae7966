"""Run folders in the formats of other people's tools: NWB."""

from .exports import Export, export_nwb

__all__ = ["Export", "export_nwb"]
