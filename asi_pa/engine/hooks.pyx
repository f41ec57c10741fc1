"""Slow-path decisions of a design written in Python, and what they may look at."""

import operator

from libc.stdint cimport int64_t, uint32_t

from asi_pa._core cimport blocks_on, first_of, zone_t
from asi_pa.engine.flip cimport flip_free_blocks


cdef zone_t NO_ZONE             # what a view of no machine shows: zeros


cdef class ZoneView:
    """What a design's slow-path decision may look at; valid only during the call."""

    def __cinit__(self):
        self.z = &NO_ZONE

    @property
    def pageblock_pages(self):
        return self.z.pageblock_pages

    @property
    def managed(self):
        """Managed pages of the zone."""
        return self.z.managed

    @property
    def watermarks(self):
        """(min, low, high) in pages, boost included."""
        return tuple(self.z.wmark[i] + self.z.boost for i in range(3))

    def free_pages(self, *, mapped=None, freetype=None):
        """Free pages that requests can have: of one side, of one freetype, or all."""
        cdef int ft, order
        cdef int64_t n = 0
        for ft in self._types(mapped, freetype):
            for order in range(self.z.max_order + 1):
                n += <int64_t>blocks_on(self.z, order, ft) << order
        return n

    def whole_blocks(self, *, mapped=None, freetype=None):
        """Wholly free pageblocks of one side, of one freetype, or all."""
        cdef int ft, order
        cdef int64_t n = 0
        for ft in self._types(mapped, freetype):
            for order in range(self.z.pageblock_order, self.z.max_order + 1):
                n += <int64_t>blocks_on(self.z, order, ft) << (order - self.z.pageblock_order)
        return n

    def free_list(self, freetype, int order, int most=64):
        """pfns at the head of one free list, at most ``most``."""
        cdef uint32_t frame
        out = []
        if 0 <= order <= self.z.max_order:
            frame = first_of(self.z, order, <int>self.design.freetype(freetype))
            while frame < self.z.nframes and len(out) < most:
                out.append(self.z.base_pfn + frame)
                frame = self.z.links[frame].next
        return out

    def _types(self, mapped, freetype):
        return [i for i, ft in enumerate(self.design.freetypes)
                if ft.mt <= 2 and (mapped is None or ft.mapped == mapped)
                and (freetype is None or ft.name == freetype)]


cdef object whole_number(ZoneView view, method, answer):
    try:
        number = operator.index(answer)
        if abs(number) < 1 << 62:
            return number
    except TypeError:
        pass
    raise ValueError(f"design {view.design.name!r}: {method}() returned {answer!r}, which is no number")


cdef void ahead_hook(zone_t *z) noexcept with gil:
    cdef ZoneView view = <ZoneView>z.hooks
    cdef int64_t n
    if view.error is not None:
        return
    try:
        n = whole_number(view, "unmap_ahead", view.design.unmap_ahead(view))
        if n > 0:
            z.stats.unmapped_ahead += flip_free_blocks(z, n, False)
        elif n < 0:
            flip_free_blocks(z, -n, True)
    except BaseException as error:
        view.error = error


cdef int64_t choose_hook(zone_t *z, int order, int ft) noexcept with gil:
    cdef ZoneView view = <ZoneView>z.hooks
    if view.error is not None:
        return -1
    try:
        pfn = view.design.choose_block(view, order, view.design.freetypes[ft].name)
        if pfn is None:
            return -1
        pfn = whole_number(view, "choose_block", pfn)
        if not z.base_pfn + z.first <= pfn < z.base_pfn + z.nframes:
            return -1
        return pfn - z.base_pfn
    except BaseException as error:
        view.error = error
        return -1
