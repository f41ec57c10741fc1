// SPDX-License-Identifier: GPL-2.0 OR MIT
// Holds a zone back at boot, hands it over, runs the script with preemption off, and powers off.
#include <linux/sched.h>
#include <linux/mm.h>
#include <linux/compaction.h>
#include <linux/cpu.h>
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/init.h>
#include <linux/io.h>
#include <linux/kthread.h>
#include <linux/memblock.h>
#include <linux/page-isolation.h>
#include <linux/swap.h>
#include <linux/vmstat.h>
#include "internal.h"
#include "oracle.h"

extern int min_free_kbytes;
extern int watermark_boost_factor;
extern int sysctl_stat_interval;

struct oracle_state oracle;
int oracle_pcp_held;
static unsigned long zone_bytes[2], zone2_bytes[2];

/* oracle=low,high[,low2,high2]: bytes of the zone, and of one in ZONE_DMA32 of the same node */
static int __init oracle_early(char *text)
{
	zone_bytes[0] = memparse(text, &text);
	text++;
	zone_bytes[1] = memparse(text, &text);
	if (*text == ',') {
		text++;
		zone2_bytes[0] = memparse(text, &text);
		text++;
		zone2_bytes[1] = memparse(text, &text);
		memblock_reserve(zone2_bytes[0], zone2_bytes[1] - zone2_bytes[0]);
	}
	memblock_reserve(zone_bytes[0], zone_bytes[1] - zone_bytes[0]);
	memblock_reserve(ORACLE_IN, ORACLE_IN_SIZE + ORACLE_LIVE_SIZE + ORACLE_OUT_SIZE + ORACLE_FRAMES_SIZE);
	sysctl_stat_interval = 36000 * HZ;	/* nobody folds counters during the run */
	return 0;
}
early_param("oracle", oracle_early);

/* ---------------------------------------------------------------- the log */

void oracle_ev(int kind, long a, long b, long c, long d)
{
	s32 *row = oracle.events + 6 * (size_t)oracle.nevents;

	if (!oracle.logging)
		return;
	if ((oracle.nevents + 1) * 24UL <= ORACLE_OUT_SIZE - ORACLE_EVENTS) {
		row[0] = oracle.row;
		row[1] = kind;
		row[2] = a;
		row[3] = b;
		row[4] = c;
		row[5] = d;
	}
	oracle.nevents++;
}

void oracle_evp(int kind, long pfn1, long pfn2, long c, long d)
{
	oracle_ev(kind, pfn1 - oracle.base, pfn2 - oracle.base, c, d);
}

/* ---------------------------------------------------------------- the state before the first operation */

/* Every CPU's: memory was handed over by whichever one the driver ran on. */
static void fold(struct zone *zone)
{
	int cpu, i;

	for_each_online_cpu(cpu) {
		struct per_cpu_zonestat *stat = per_cpu_ptr(zone->per_cpu_zonestats, cpu);

		for (i = 0; i < NR_VM_ZONE_STAT_ITEMS; i++) {
			int value = stat->vm_stat_diff[i];

			stat->vm_stat_diff[i] = 0;
			zone_page_state_add(value, zone, i);
		}
	}
}

static void set_thresholds(struct zone *zone)
{
	int cpu;

	for_each_online_cpu(cpu)
		per_cpu_ptr(zone->per_cpu_zonestats, cpu)->stat_threshold = 0;
}

static void set_limits(struct zone *zone)
{
	struct oracle_header *h = oracle.header;
	int cpu;

	for_each_online_cpu(cpu) {
		struct per_cpu_pages *pcp = per_cpu_ptr(zone->per_cpu_pageset, cpu);

		if (oracle_mode(MODE_SMALL_CACHE))
			pcp->flags &= ~PCPF_FREE_HIGH_BATCH;
		if (h->pcp_batch) {
			pcp->high_min = h->pcp_high_min;
			pcp->high_max = h->pcp_high_max;
			pcp->batch = h->pcp_batch;
			pcp->high = 0;
		}
	}
}

/* Watermarks before the machine settles, as kswapd would see them. */
static void set_watermarks(void)
{
	struct oracle_header *h = oracle.header;
	int i;

	if (h->boost != ORACLE_NATURAL)
		watermark_boost_factor = h->boost;
#ifdef ORACLE_DEFRAG_MODE
	if (oracle_mode(MODE_DEFRAG))
		defrag_mode = 1;
#endif
	init_per_zone_wmark_min();
	for (i = 0; i < 3; i++)
		if (h->wmark[i] != ORACLE_NATURAL)
			oracle.zone->_watermark[i] = h->wmark[i];
}

static void settle(struct zone *zone)
{
	drain_local_pages(zone);
	fold(zone);
	if (oracle_mode(MODE_EXACT))
		set_thresholds(zone);
	set_limits(zone);
}

static bool no_fragment(void)
{
	bool below = nr_online_nodes > 1 && !populated_zone(oracle.zone - 1);

#ifdef ORACLE_DEFRAG_MODE
	if (defrag_mode)
		return true;
#endif
	return zone_idx(oracle.zone) == ZONE_NORMAL && !below;
}

/* What oracle/recorded.py makes the header of a recorded run of; HEADER there has the names in this order. */
static void describe(u32 *o)
{
	struct zone *zone = oracle.zone, *zone2 = oracle.zone2;

	*o++ = oracle.base;
	*o++ = zone->spanned_pages;
	*o++ = zone->present_pages;
	*o++ = zone_managed_pages(zone);
	*o++ = pageblock_order;
	*o++ = MAX_PAGE_ORDER;
	*o++ = MIGRATE_TYPES;
	*o++ = NR_PCP_LISTS;
	*o++ = no_fragment();
	*o++ = num_online_cpus();
	*o++ = this_cpu_ptr(zone->per_cpu_zonestats)->stat_threshold;
	*o++ = watermark_boost_factor;
	*o++ = min_free_kbytes;
	*o++ = CONFIG_PCP_BATCH_SCALE_MAX;
	*o++ = waitqueue_active(&zone->zone_pgdat->kswapd_wait);
	*o++ = NR_LOWORDER_PCP_LISTS;
#ifdef ORACLE_DEFRAG_MODE
	*o++ = defrag_mode;
#else
	*o++ = 0;
#endif
	*o++ = MIGRATE_HIGHATOMIC;
	*o++ = MIGRATE_CMA;
	*o++ = MIGRATE_ISOLATE;
	*o++ = oracle.base2;
	*o++ = zone2 ? oracle.high2 - oracle.base2 : 0;
	*o++ = zone2 ? zone2->present_pages : 0;
	*o++ = zone2 ? zone_managed_pages(zone2) : 0;
}

/* ---------------------------------------------------------------- operations */

struct on_cpu {
	struct oracle_op *op;
	u32 row;
	s32 result;
};

/* The slow path of who may block ends before reclaim: the task has PF_MEMALLOC, the request __GFP_NOMEMALLOC. */
static struct page *allocate(struct oracle_op *op)
{
	unsigned int flags = op->flags & FLAG_DIRECT ? PF_MEMALLOC : 0;
	struct page *page;

	current->flags |= flags;
	page = alloc_pages_node_noprof(1, oracle_gfp(op->flags), op->order);
	current->flags &= ~flags;
	return page;
}

/* What may run on any CPU, in the way of an interrupt. */
static void run_here(void *data)
{
	struct on_cpu *job = data;
	struct oracle_op *op = job->op;
	struct zone *zone = oracle.zone;
	struct page *page;

	switch (op->code) {
	case OP_ALLOC:
		page = allocate(op);
		job->result = page ? oracle_own(job->row, page, op) : -1;
		break;
	case OP_FREE:
		oracle_disown(op->a);
		break;
	case OP_DRAIN:
		if (!oracle_mode(MODE_BYPASS))
			drain_local_pages(zone);
		break;
	case OP_TICK:
		job->result = -1;
		if (!oracle_mode(MODE_BYPASS))
			job->result = decay_pcp_high(zone, this_cpu_ptr(zone->per_cpu_pageset));
		break;
	}
}

static s32 anywhere(struct oracle_op *op, u32 row)
{
	struct on_cpu job = { .op = op, .row = row };

	if (oracle_mode(MODE_CPUS))
		smp_call_function_single(op->cpu, run_here, &job, 1);
	else
		run_here(&job);
	return job.result;
}

/* Which row a free means, -1 for none. */
static s32 freed_row(struct oracle_op *op, u32 row)
{
	if (op->code == OP_FREE)
		return op->a < row && oracle.live[op->a].page ? (s32)op->a : -1;
	if (!oracle.nliving)
		return -1;
	return oracle.living[op->code == OP_FREE_ANY ? op->a % oracle.nliving : oracle.nliving - 1];
}

static s32 run_free(struct oracle_op *op, u32 row)
{
	struct oracle_op named = { .code = OP_FREE, .cpu = op->cpu };
	s32 which = freed_row(op, row);

	if (which >= 0) {
		named.a = which;
		anywhere(&named, row);
	}
	return which;
}

/* May sleep, so the pcp lock and the ban on preemption are lifted meanwhile; kswapd may set the threshold again. */
static s32 run_contig(struct oracle_op *op, u32 row, struct per_cpu_pages *pcp)
{
	struct zone *zone = oracle.zone;
	s32 result;

	if (oracle_mode(MODE_BYPASS)) {
		oracle_pcp_held = 0;
		spin_unlock(&pcp->lock);
	}
	preempt_enable();
	result = ORACLE_CONTIG(oracle.base + op->a, oracle.base + op->b, op->order, GFP_KERNEL | __GFP_NOWARN);
	preempt_disable();
	if (oracle_mode(MODE_EXACT)) {
		fold(zone);
		set_thresholds(zone);
	}
	if (oracle_mode(MODE_BYPASS)) {
		spin_lock(&pcp->lock);
		oracle_pcp_held = 1;
	}
	if (!result)
		result = oracle_own(row, pfn_to_page(oracle.base + op->a), op);
	return result;
}

/* A list's first block of an order of at least b leaves and comes back, as page reporting does it. */
static s32 run_take(struct oracle_op *op)
{
	struct zone *zone = oracle.zone;
	unsigned long flags;
	struct page *page = NULL;
	unsigned int order;
	s32 result = -1;

	spin_lock_irqsave(&zone->lock, flags);
	for (order = op->b; order < NR_PAGE_ORDERS && !page; order++)
		page = list_first_entry_or_null(&zone->free_area[order].free_list[op->a], struct page, buddy_list);
	if (page && __isolate_free_page(page, --order)) {
		result = oracle_frame(page);
		__putback_isolated_page(page, order, get_pageblock_migratetype(page));
	}
	spin_unlock_irqrestore(&zone->lock, flags);
	return result;
}

#ifdef CONFIG_COMPACTION
static s32 run_compaction(struct oracle_op *op, u32 row)
{
	struct page *page;
	int answer;
	s32 result = 0;

	switch (op->code) {
	case OP_COMPACT_NODE:
		oracle_compact_node(oracle.zone->zone_pgdat, op->a);
		break;
	case OP_COMPACT:
		result = oracle_try_compact(oracle_gfp(op->flags), op->order, 1, op->a);
		break;
	case OP_DIRECT_COMPACT:
		current->flags &= ~PF_KTHREAD;	/* kernel threads do not capture */
		page = oracle_direct_compact(oracle_gfp(op->flags), op->order, 1, op->a, &answer);
		current->flags |= PF_KTHREAD;
		lru_add_drain();
		oracle_ev(14, answer, page ? (long)oracle_frame(page) : -1, 0, 0);
		result = page ? oracle_own(row, page, op) : -1;
		break;
	case OP_RESET_SKIP:
		reset_isolation_suitable(oracle.zone->zone_pgdat);
		break;
	case OP_KCOMPACTD:
		oracle_kcompactd(oracle.zone->zone_pgdat, op->order);
		break;
	}
	lru_add_drain();
	return result;
}
#endif

static s32 run_op(struct oracle_op *op, u32 row, struct per_cpu_pages *pcp)
{
	switch (op->code) {
	case OP_ALLOC:
	case OP_DRAIN:
	case OP_TICK:
		return anywhere(op, row);
	case OP_FREE_ANY:
	case OP_FREE_NEWEST:
	case OP_FREE:
		return run_free(op, row);
	case OP_DUMP:
		oracle_dump(row);
		return 0;
	case OP_ISOLATE:
		return ORACLE_ISOLATE(oracle.base + op->a, oracle.base + op->b, op->order);
	case OP_UNISOLATE:
		ORACLE_UNISOLATE(oracle.base + op->a, oracle.base + op->b);
		return 0;
	case OP_CONTIG:
		return run_contig(op, row, pcp);
	case OP_UNRESERVE:
		return oracle_unreserve(oracle.zone, oracle_mode(MODE_DESIGN) ? op->b : op->flags & FLAG_TYPE, op->a);
	case OP_TAKE:
		return run_take(op);
	}
#ifdef CONFIG_COMPACTION
	if (op->code >= OP_COMPACT_NODE)
		return run_compaction(op, row);
#endif
	return -1;
}

static void run_script(struct per_cpu_pages *pcp)
{
	u32 row, every = oracle.header->dump_every;

	oracle_dump(0);
	for (row = 0; row < oracle.header->nops; row++) {
		struct oracle_op *op = &oracle.ops[row];
		struct oracle_answer *answer = &oracle.answers[row];

		oracle.row = row;
		answer->result = run_op(op, row, pcp);
		if (oracle_mode(MODE_CPUS))
			pcp = per_cpu_ptr(oracle.zone->per_cpu_pageset, op->cpu);
		answer->pcp_count = pcp->count;
		answer->pcp_high = pcp->high;
		answer->nr_free = zone_page_state(oracle.zone, NR_FREE_PAGES);
#ifdef ORACLE_DESIGN
		if (oracle_mode(MODE_DESIGN))
			oracle_book_watch(row, op);
#endif
		if (every && (row + 1) % every == 0)
			oracle_dump(row + 1);
	}
	oracle_dump(oracle.header->nops);
}

/* ---------------------------------------------------------------- the run */

static bool find_script(void)
{
	struct oracle_header *h = phys_to_virt(ORACLE_IN);
	void *out = phys_to_virt(ORACLE_OUT);

	if (h->magic != ORACLE_MAGIC) {
		pr_info("oracle: no script\n");
		return false;
	}
	oracle.header = h;
	oracle.ops = (void *)h + PAGE_SIZE;
	oracle.answers = out + PAGE_SIZE;
	oracle.words = (u32 *)(oracle.answers + h->nops) + (oracle_mode(MODE_DESIGN) ? 8 * (size_t)h->nops : 0);
	oracle.words_end = out + ORACLE_EVENTS;
	oracle.events = out + ORACLE_EVENTS;
	oracle.live = phys_to_virt(ORACLE_LIVE);
	oracle.living = (u32 *)(oracle.live + h->nops);
	memset(oracle.live, 0, h->nops * sizeof(*oracle.live));
	oracle.low = zone_bytes[0] >> PAGE_SHIFT;
	oracle.high = zone_bytes[1] >> PAGE_SHIFT;
	oracle.low2 = zone2_bytes[0] >> PAGE_SHIFT;
	oracle.high2 = zone2_bytes[1] >> PAGE_SHIFT;
	oracle.zone = page_zone(pfn_to_page(oracle.low));
	oracle.base = oracle.zone->zone_start_pfn;
	return true;
}

static void finish(u32 *out)
{
	bool whole = oracle.words <= oracle.words_end &&
		     oracle.nevents * 24UL <= ORACLE_OUT_SIZE - ORACLE_EVENTS;

	out[1] = whole ? 1 : 2;
	out[40] = oracle.words - out;
	out[41] = oracle.nevents;
	pr_info("oracle: %u operations, %u live, %u events\n", oracle.header->nops, oracle.nliving, oracle.nevents);
	outl(0, 0xf4);		/* QEMU's isa-debug-exit */
}

static int __ref oracle_thread(void *unused)
{
	struct per_cpu_pages *pcp;
	u32 *out = phys_to_virt(ORACLE_OUT);

	if (!find_script())
		return 0;
	pr_info("oracle: zone %s, start %lx, spanned %lx, free %ld\n", oracle.zone->name, oracle.base,
		oracle.zone->spanned_pages, zone_page_state_snapshot(oracle.zone, NR_FREE_PAGES));
	set_cpus_allowed_ptr(current, cpumask_of(0));
	oracle_handover();
	set_watermarks();
#ifdef CONFIG_COMPACTION
	kcompactd_stop(zone_to_nid(oracle.zone));	/* without preemption, cond_resched() would let it in */
#endif
	msleep(400);		/* until kswapd sleeps */
	preempt_disable();
	lru_add_drain();
	settle(oracle.zone);
	if (oracle.zone2)
		settle(oracle.zone2);
	if (oracle_mode(MODE_COMPACTION))
		this_cpu_ptr(oracle.zone->zone_pgdat->per_cpu_nodestats)->stat_threshold = 0;
	describe(out + 2);
	out[0] = ORACLE_MAGIC;
	pcp = this_cpu_ptr(oracle.zone->per_cpu_pageset);
	if (oracle_mode(MODE_BYPASS)) {
		spin_lock(&pcp->lock);
		oracle_pcp_held = 1;
		if (oracle.zone2)
			spin_lock(&this_cpu_ptr(oracle.zone2->per_cpu_pageset)->lock);
	}
#ifdef ORACLE_DESIGN
	if (oracle_mode(MODE_DESIGN))
		oracle_book_start();
#endif
	oracle.logging = true;
	run_script(pcp);
	oracle.logging = false;
	finish(out);
	return 0;
}

static int __init oracle_start(void)
{
	if (!zone_bytes[1])
		return 0;
	if (oracle_make_inodes())
		return -ENOMEM;
	kthread_run(oracle_thread, NULL, "oracle");
	msleep(3600 * 1000);
	return 0;
}
late_initcall_sync(oracle_start);
