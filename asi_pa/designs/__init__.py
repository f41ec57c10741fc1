"""Designs as data: which free lists there are, where a request looks, who may take from whom, what flips.

Public: the registry :data:`DESIGNS`, :class:`Design` and its parts, :func:`as_design` for names and words.
"""

from asi_pa.designs.table import DESIGNS, Design, Freetype, PcpBank, as_design, design_names

__all__ = ["DESIGNS", "Design", "Freetype", "PcpBank", "as_design", "design_names"]
