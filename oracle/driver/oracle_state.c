// SPDX-License-Identifier: GPL-2.0 OR MIT
// The state of a zone, written out: docs/engine/model.md has the words in order.
#include <linux/sched.h>
#include <linux/mm.h>
#include <linux/compaction.h>
#include <linux/cpu.h>
#include <linux/gfp.h>
#include <linux/pageblock-flags.h>
#include <linux/page-isolation.h>
#include <linux/vmstat.h>
#include "internal.h"
#include "oracle.h"

static void put(u32 word)
{
	if (oracle.words < oracle.words_end)
		*oracle.words = word;
	oracle.words++;		/* beyond the end: the run is refused, with how much was wanted */
}

/* A length and what is counted: the length is known afterwards. */
#define put_counted(start, n) do { if ((start) < oracle.words_end) *(start) = (n); } while (0)

static void put_free_lists(struct zone *zone, unsigned long base)
{
	int order, type;
	struct page *page;

	put(NR_PAGE_ORDERS);
	put(ORACLE_TYPES);
	for (order = 0; order < NR_PAGE_ORDERS; order++) {
		put(zone->free_area[order].nr_free);
		for (type = 0; type < ORACLE_TYPES; type++) {
			u32 *start = oracle.words, n = 0;

			put(0);
			list_for_each_entry(page, ORACLE_FREE_LIST(zone, order, type), buddy_list) {
				put(page_to_pfn(page) - base);
				n++;
			}
			put_counted(start, n);
		}
	}
}

static void put_pcp(struct per_cpu_pages *pcp, unsigned long base)
{
	struct page *page;
	int i;

	put(8);
	put(pcp->count);
	put(pcp->high);
	put(pcp->high_min);
	put(pcp->high_max);
	put(pcp->batch);
	put(pcp->flags);
	put(pcp->alloc_factor);
	put(pcp->free_count);
	put(NR_PCP_LISTS);
	for (i = 0; i < NR_PCP_LISTS; i++) {
		u32 *start = oracle.words, n = 0;

		put(0);
		list_for_each_entry(page, &pcp->lists[i], pcp_list) {
			put(page_to_pfn(page) - base);
			n++;
		}
		put_counted(start, n);
	}
}

static void put_counters(struct zone *zone, int second)
{
	struct per_cpu_zonestat *stat = this_cpu_ptr(zone->per_cpu_zonestats);
	int i;

	put(18);
	put(zone_page_state(zone, NR_FREE_PAGES));
	put(zone_page_state(zone, NR_FREE_CMA_PAGES));
	put(zone->nr_reserved_highatomic);
	put(zone->nr_free_highatomic);
	put(zone->watermark_boost);
	put(zone->flags);
	for (i = 0; i < 4; i++)
		put(zone->_watermark[i]);
	put(zone->lowmem_reserve[ZONE_NORMAL]);
	put((s32)stat->vm_stat_diff[NR_FREE_PAGES]);
	put((s32)stat->vm_stat_diff[NR_FREE_CMA_PAGES]);
	put((s32)stat->stat_threshold);
	put(zone_managed_pages(zone));
	put(zone->cma_pages);
	put(zone->nr_isolate_pageblock);
	put(second);
}

static u32 below(unsigned long pfn)
{
	return pfn < oracle.base ? -1 : pfn - oracle.base;
}

static void put_compaction(struct zone *zone, unsigned long base, u32 blocks)
{
	u32 i;

	put(9);
	put(below(zone->compact_cached_free_pfn));
	put(below(zone->compact_cached_migrate_pfn[0]));
	put(below(zone->compact_cached_migrate_pfn[1]));
	put(below(zone->compact_init_migrate_pfn));
	put(below(zone->compact_init_free_pfn));
	put(zone->compact_considered);
	put(zone->compact_defer_shift);
	put(zone->compact_order_failed);
	put(zone->compact_blockskip_flush);
	put(blocks);
	for (i = 0; i < blocks; i++)
		put(!!get_pageblock_skip(pfn_to_page(base + (unsigned long)i * pageblock_nr_pages)));
}

static void dump_zone(struct zone *zone, unsigned long base, u32 after)
{
	u32 *start = oracle.words, i, blocks;
	int second = zone == oracle.zone2, cpu;
	/* the span of a DMA32 zone runs on to 4 GiB: what was held back is what counts */
	unsigned long pages = second ? oracle.high2 - base : zone->spanned_pages;

	put(ORACLE_DUMP);
	put(after);
	put(0);
	put_counters(zone, second);
	put_free_lists(zone, base);
	blocks = (pages + pageblock_nr_pages - 1) >> pageblock_order;
	put(blocks);
	for (i = 0; i < blocks; i++)
		put(ORACLE_BLOCK_TYPE(pfn_to_page(base + (unsigned long)i * pageblock_nr_pages)));
	put_pcp(this_cpu_ptr(zone->per_cpu_pageset), base);
	if (oracle_mode(MODE_CPUS)) {
		put(num_online_cpus() - 1);
		for (cpu = 1; cpu < num_online_cpus(); cpu++) {
			struct per_cpu_zonestat *stat = per_cpu_ptr(zone->per_cpu_zonestats, cpu);

			put((s32)stat->vm_stat_diff[NR_FREE_PAGES]);
			put((s32)stat->vm_stat_diff[NR_FREE_CMA_PAGES]);
			put_pcp(per_cpu_ptr(zone->per_cpu_pageset, cpu), base);
		}
	}
#ifdef ORACLE_DESIGN
	if (oracle_mode(MODE_DESIGN)) {
		put(blocks);
		for (i = 0; i < blocks; i++)
			put(oracle_block_mapped(pfn_to_page(base + (unsigned long)i * pageblock_nr_pages)));
	}
#endif
	if (oracle_mode(MODE_COMPACTION))
		put_compaction(zone, base, blocks);
	put_counted(start + 2, oracle.words - start);
}

void oracle_dump(u32 after)
{
	dump_zone(oracle.zone, oracle.base, after);
	if (oracle.zone2)
		dump_zone(oracle.zone2, oracle.base2, after);
}
