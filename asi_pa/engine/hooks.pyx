"""Slow-path decisions of a design written in Python, and what they may look at."""

import operator

from libc.stdint cimport int64_t, uint32_t, uint64_t

from asi_pa._core cimport (
    FREE,
    HOLE,
    KIND_MASK,
    ORDER_MASK,
    POOL_LIST,
    TAIL,
    block_of,
    blocks_on,
    first_of,
    zone_t,
)
from asi_pa.designs.fields import nearest
from asi_pa.engine.flip cimport flip_free_blocks
from asi_pa.engine.page_isolation cimport head_of


cdef zone_t NO_ZONE             # what a view of no machine shows: zeros

cdef enum:
    LARGEST_REFILL = 18         # 1 GiB


cdef class ZoneView:
    """One zone, as a design's slow-path decision may look at it; valid only during the call.

    Sizes are pages unless said otherwise.  ``mapped`` and ``freetype`` choose among the free lists that
    requests can have: True, False or None for either side of the mapping, a freetype's name.
    """

    def __cinit__(self):
        self.z = &NO_ZONE

    @property
    def zone(self):
        """The zone's name, such as "Normal"."""
        return "" if self.spec is None else self.spec.name

    @property
    def node(self):
        """The zone's node."""
        return self.z.nid

    @property
    def start_pfn(self):
        """The zone's first frame; pfns are absolute."""
        return self.z.base_pfn + self.z.first

    @property
    def end_pfn(self):
        """One past its last frame."""
        return self.z.base_pfn + self.z.nframes

    @property
    def pageblock_order(self):
        return self.z.pageblock_order

    @property
    def pageblock_pages(self):
        """Pages of a pageblock."""
        return self.z.pageblock_pages

    @property
    def max_order(self):
        """MAX_PAGE_ORDER: of the largest free blocks."""
        return self.z.max_order

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

    def counts(self, *, mapped=None, freetype=None):
        """Free blocks by order, from 0 to ``max_order``: of one side, of one freetype, or all."""
        cdef int order
        return tuple(sum(blocks_on(self.z, order, ft) for ft in self._types(mapped, freetype))
                     for order in range(self.z.max_order + 1))

    def pool_pages(self):
        """Free pages of the zone that the pool holds (wrapper "pool")."""
        cdef int order
        cdef int64_t n = 0
        for order in range(self.z.max_order + 1):
            n += <int64_t>blocks_on(self.z, order, POOL_LIST) << order
        return n

    def block_free(self, pfn):
        """Pages of a pfn's pageblock that are on the free lists."""
        cdef uint32_t frame = block_of(self.z, self._frame(pfn)) << self.z.pageblock_order
        cdef uint32_t end = frame + self.z.pageblock_pages, head
        cdef int64_t n = 0
        while frame < end:
            head = head_of(self.z, frame)
            if self.z.state[head] & KIND_MASK == FREE:
                n += min(end, head + (1u << (self.z.state[head] & ORDER_MASK))) - frame
            if self.z.state[head] & KIND_MASK in (TAIL, HOLE):
                frame += 1
            else:
                frame = head + (1u << (self.z.state[head] & ORDER_MASK))
        return n

    def block_type(self, pfn):
        """The name of the freetype that a pfn's pageblock has."""
        return self.design.freetypes[self.z.pbtype[block_of(self.z, self._frame(pfn))]].name

    def block_mapped(self, pfn):
        """Is a pfn's pageblock present in the tree that a design protects that goes by labels?"""
        return bool(self.z.pbmapped[block_of(self.z, self._frame(pfn))])

    cdef uint32_t _frame(self, object pfn) except? 0xFFFFFFFF:
        if not self.start_pfn <= pfn < self.end_pfn:
            raise ValueError(f"pfn {pfn} is not in [{self.start_pfn}, {self.end_pfn})")
        return <uint32_t>(<uint64_t>pfn - self.z.base_pfn)

    def free_list(self, freetype, int order, int most=64):
        """pfns at the head of one free list, at most ``most``."""
        cdef uint32_t frame
        out = []
        if 0 <= order <= self.z.max_order:
            frame = first_of(self.z, order, self._type(freetype))
            while frame < self.z.nframes and len(out) < most:
                out.append(self.z.base_pfn + frame)
                frame = self.z.links[frame].next
        return out

    cdef int _type(self, name) except -1:
        names = [ft.name for ft in self.design.freetypes]
        if name not in names:
            raise ValueError(f"no freetype {name!r} (there are {', '.join(names)})")
        return names.index(name)

    def __getattr__(self, name):
        known = [each for each in dir(ZoneView) if not each.startswith("_")]
        raise AttributeError(f"ZoneView has no {name!r}{nearest(name, known)}")

    def _types(self, mapped, freetype):
        if mapped is not None and mapped is not True and mapped is not False:
            raise ValueError(f"mapped {mapped!r} is neither True, False nor None")
        if freetype is not None:
            self._type(freetype)
        return [i for i, ft in enumerate(self.design.freetypes)
                if ft.mt <= 2 and (mapped is None or ft.mapped == mapped)
                and (freetype is None or ft.name == freetype)]


cdef object whole_number(ZoneView view, method, answer):
    try:
        number = operator.index(answer)
    except TypeError:
        raise ValueError(f"design {view.design.name!r}: {method}() returned {answer!r}, "
                         "which is no number") from None
    if abs(number) < 1 << 62:
        return number
    raise ValueError(f"design {view.design.name!r}: {method}() returned {number}, which is too large")


cdef object error_of(ZoneView view, method, error):
    # A hook ends no program: what sys.exit() raises would be taken for the end of asi-pa itself.
    if not isinstance(error, SystemExit):
        return error
    made = RuntimeError(f"design {view.design.name!r}: {method}() raised SystemExit")
    return made.with_traceback(error.__traceback__)


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
        view.error = error_of(view, "unmap_ahead", error)


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
        view.error = error_of(view, "choose_block", error)
        return -1


cdef int refill_hook(zone_t *z, int order) noexcept with gil:
    cdef ZoneView view = <ZoneView>z.hooks
    if view.error is not None:
        return -1
    try:
        wanted = view.design.choose_refill(view, order)
        if wanted is None:
            return -1
        wanted = whole_number(view, "choose_refill", wanted)
        if not 0 <= wanted <= LARGEST_REFILL:
            raise ValueError(f"design {view.design.name!r}: choose_refill() returned {wanted}, "
                             f"orders are 0 to {LARGEST_REFILL}")
        return wanted
    except BaseException as error:
        view.error = error_of(view, "choose_refill", error)
        return -1
