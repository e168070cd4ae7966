"""Run folders in the formats of other people's tools: NWB, Parquet, CSV."""

from .exports import Export, export_nwb, export_tables

__all__ = ["Export", "export_nwb", "export_tables"]
