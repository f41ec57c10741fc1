// SPDX-License-Identifier: GPL-2.0 OR MIT
// What the script holds: plain pages, and movable folios in the page cache of two inodes of our own.
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/gfp.h>
#include <linux/memblock.h>
#include <linux/migrate.h>
#include <linux/pagemap.h>
#include <linux/swap.h>
#include <linux/sched.h>
#include "internal.h"
#include "oracle.h"

/* The second's folios cannot be split.  A folio's index is 1024 times the operation that allocated it. */
static struct inode *inodes[2];

static int move_folio(struct address_space *mapping, struct folio *dst, struct folio *src, enum migrate_mode mode)
{
	int answer = filemap_migrate_folio(mapping, dst, src, mode);

	oracle_evp(1, folio_pfn(src), folio_pfn(dst), folio_order(dst) | mode << 8, answer);
	return answer;
}

static const struct address_space_operations oracle_aops = { .migrate_folio = move_folio };

int oracle_make_inodes(void)
{
	int i;

	for (i = 0; i < 2; i++) {
		inodes[i] = new_inode(current->fs->root.dentry->d_sb);
		if (!inodes[i])
			return -ENOMEM;
		inodes[i]->i_mapping->a_ops = &oracle_aops;
		i_size_write(inodes[i], MAX_LFS_FILESIZE);
		mapping_set_gfp_mask(inodes[i]->i_mapping, GFP_KERNEL);
		if (i)
			mapping_set_folio_order_range(inodes[i]->i_mapping, 9, 9);
		else
			mapping_set_large_folios(inodes[i]->i_mapping);
	}
	return 0;
}

u32 oracle_frame(struct page *page)
{
	if (page_zone(page) == oracle.zone2)
		return page_to_pfn(page) - oracle.base2 + ORACLE_SECOND;
	return page_to_pfn(page) - oracle.base;
}

static bool real_folios(void)
{
	return oracle_mode(MODE_COMPACTION);
}

/* The page is operation row's now.  Its frame, or -99 where the kernel gave a page of another zone. */
s32 oracle_own(u32 row, struct page *page, struct oracle_op *op)
{
	struct oracle_live *l = &oracle.live[row];

	if (page_zone(page) != oracle.zone && page_zone(page) != oracle.zone2)
		return -99;
	l->page = page;
	l->order = op->order;
	l->flags = op->flags;
	l->lru = !!(op->flags & FLAG_LRU);
	l->contig = op->code == OP_CONTIG;
	l->pages = l->contig ? op->b - op->a : 1U << op->order;
	l->at = oracle.nliving;
	oracle.living[oracle.nliving++] = row;
#ifdef ORACLE_DESIGN
	if (oracle_mode(MODE_DESIGN) && !l->contig)
		oracle_book_alloc(page, l->order, ORACLE_IS_PROTECTED(op->flags));
#endif
	if (l->lru && !real_folios()) {
		folio_set_lru(page_folio(page));	/* claims count it as movable */
	} else if (l->lru) {
		struct folio *folio = op->order ? page_rmappable_folio(page) : page_folio(page);

		l->pinned = !!(op->flags & FLAG_256);
		l->inode = !!(op->flags & FLAG_UNSPLITTABLE);
		if (filemap_add_folio(inodes[l->inode]->i_mapping, folio, (pgoff_t)row << 10, GFP_KERNEL))
			return -99;
		folio_unlock(folio);
		lru_add_drain();
		if (!l->pinned)
			folio_put(folio);	/* the page cache keeps it */
	}
	return l->contig ? 0 : oracle_frame(page);
}

/* The folio may have been split since: all that is in its range goes, ascending. */
static void remove_folios(struct oracle_live *l, u32 row)
{
	struct address_space *mapping = inodes[l->inode]->i_mapping;
	pgoff_t at = (pgoff_t)row << 10, end = at + l->pages;

	if (l->pinned)
		folio_put(page_folio(l->page));
	while (at < end) {
		struct folio *folio = filemap_get_folio(mapping, at);

		if (IS_ERR(folio)) {
			pr_err("oracle: BUG: the folio of operation %u is lost\n", row);
			return;
		}
		at += folio_nr_pages(folio);
		folio_lock(folio);
		filemap_remove_folio(folio);
		folio_unlock(folio);
		folio_put(folio);
	}
}

void oracle_disown(u32 row)
{
	struct oracle_live *l = &oracle.live[row];

	oracle.living[l->at] = oracle.living[--oracle.nliving];
	oracle.live[oracle.living[l->at]].at = l->at;
#ifdef ORACLE_DESIGN
	if (oracle_mode(MODE_DESIGN) && !l->contig)
		oracle_book_free(l->page, l->pages);
#endif
	if (l->contig) {
		free_contig_range(page_to_pfn(l->page), l->pages);
	} else if (l->lru && real_folios()) {
		remove_folios(l, row);
	} else {
		if (l->lru)
			folio_clear_lru(page_folio(l->page));
		__free_pages(l->page, l->order);
	}
	l->page = NULL;
}

/* A request of the zone's node only.  FLAG_256 is what the kind of run makes of it: pinned, sensitive, or DMA32. */
gfp_t oracle_gfp(u16 flags)
{
	gfp_t gfp = __GFP_THISNODE | __GFP_NOWARN;

	if ((flags & FLAG_TYPE) == 1)
		gfp |= __GFP_MOVABLE;
	if ((flags & FLAG_TYPE) == 2)
		gfp |= __GFP_RECLAIMABLE;
	if (flags & FLAG_HIGH)
		gfp |= __GFP_HIGH;
	if (flags & FLAG_KSWAPD)
		gfp |= __GFP_KSWAPD_RECLAIM;
	if (flags & FLAG_NOMEMALLOC)
		gfp |= __GFP_NOMEMALLOC;
	if (flags & (FLAG_COMP | FLAG_LRU))
		gfp |= __GFP_COMP;
	if (flags & FLAG_MEMALLOC)
		gfp |= __GFP_MEMALLOC;
	if (real_folios()) {
		if (flags & FLAG_DIRECT)
			gfp |= __GFP_DIRECT_RECLAIM | __GFP_IO | __GFP_FS;
		if (flags & FLAG_NOFS)
			gfp &= ~__GFP_FS;
		return gfp;
	}
	if (flags & FLAG_DIRECT)
		gfp |= __GFP_DIRECT_RECLAIM;
#ifdef ORACLE_DESIGN
	if (oracle_mode(MODE_DESIGN))
		return flags & FLAG_256 ? ORACLE_PROTECTED(gfp) : gfp;
#endif
	return flags & FLAG_256 ? gfp | __GFP_DMA32 : gfp;
}

static void __ref free_range(unsigned long start, unsigned long end)
{
	while (start < end) {
		int order = start ? min_t(int, MAX_PAGE_ORDER, __ffs(start)) : MAX_PAGE_ORDER;

		while (start + (1UL << order) > end)
			order--;
		__free_pages_core(pfn_to_page(start), order, MEMINIT_EARLY);
		totalram_pages_add(1UL << order);
		start += 1UL << order;
	}
}

/* Memory comes as boot hands it over: aligned chunks, ascending; CMA pageblocks afterwards. */
void __ref oracle_handover(void)
{
	struct oracle_header *h = oracle.header;
	unsigned long at = oracle.low, cma = oracle.low + h->cma_start;
	u32 i;

	for (i = 0; i < h->nholes && i < ORACLE_HOLES; i++) {
		free_range(at, oracle.low + h->holes[i][0]);
		at = oracle.low + h->holes[i][1];
	}
	if (h->cma_pages) {
		free_range(at, cma);
		at = cma + h->cma_pages;
	}
	free_range(at, oracle.high);
	for (i = 0; i < h->cma_pages; i += pageblock_nr_pages)
		init_cma_reserved_pageblock(pfn_to_page(cma + i));
	if (oracle_mode(MODE_TWO_ZONES) && oracle.high2) {
		oracle.zone2 = page_zone(pfn_to_page(oracle.low2));
		oracle.base2 = oracle.zone2->zone_start_pfn;
		free_range(oracle.low2, oracle.high2 - ((4UL << 20) >> PAGE_SHIFT));
	}
}
