/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The oracle: gives a whole zone of a running kernel to a script of page allocator calls.
 *
 * Everything here is built into the kernel; oracle/qemu.py starts it, oracle/script.py packs the script and
 * oracle/recorded.py reads what comes back.  oracle_features.h is written by oracle/edits.py: which of the
 * functions that changed between versions this kernel has.
 */
#ifndef ORACLE_H
#define ORACLE_H

#include <linux/types.h>
#include <linux/sched.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
/* Since 7.3 what mm/ keeps to itself is not all in internal.h. */
#if __has_include("page_alloc.h")
#include "page_alloc.h"
#endif
#if __has_include("mm_init.h")
#include "mm_init.h"
#endif
#include "oracle_features.h"
#ifdef ORACLE_DESIGN
#include "oracle_book.h"
#include "oracle_design.h"
#endif
#ifndef ORACLE_TYPES	/* what a free list is of, as Linux has it */
#define ORACLE_TYPES MIGRATE_TYPES
#define ORACLE_FREE_LIST(zone, order, type) (&(zone)->free_area[order].free_list[type])
#define ORACLE_BLOCK_TYPE(page) get_pageblock_migratetype(page)
#endif
#ifndef ORACLE_IS_PROTECTED	/* whose pages must not be mapped */
#define ORACLE_IS_PROTECTED(flags) ((flags) & FLAG_256)
#endif
#ifndef ORACLE_PROTECTED
#define ORACLE_PROTECTED(gfp) (gfp)
#endif

/* Physical memory of node 0 that the host reads and writes while the machine stands still. */
#define ORACLE_IN	0x40000000UL	/* the script: header, one page, then operations */
#define ORACLE_IN_SIZE	0x04000000UL
#define ORACLE_LIVE	0x44000000UL	/* the driver's own table of what is allocated */
#define ORACLE_LIVE_SIZE 0x04000000UL
#define ORACLE_OUT	0x48000000UL	/* header, one page; answers; dumps */
#define ORACLE_OUT_SIZE	0x18000000UL
#define ORACLE_EVENTS	0x10000000UL	/* in the above: the event log */
#define ORACLE_FRAMES	0x60000000UL	/* a design's book: a byte per frame of the zone */
#define ORACLE_FRAMES_SIZE 0x01000000UL

#define ORACLE_MAGIC	0x4c43524fU
#define ORACLE_DUMP	0x504d5544U
#define ORACLE_SECOND	0x40000000	/* added to frames of the second zone */
#define ORACLE_NATURAL	(~0U)		/* in the header: what the kernel computes */
#define ORACLE_HOLES	256

enum oracle_mode {
	MODE_BYPASS = 1,	/* the pcp lock is held for the whole run */
	MODE_EXACT = 2,		/* stat threshold 0 */
	MODE_DEFRAG = 4,	/* vm.defrag_mode=1 */
	MODE_TWO_ZONES = 8,
	MODE_CPUS = 16,		/* an operation runs on the CPU that it names */
	MODE_SMALL_CACHE = 32,	/* PCPF_FREE_HIGH_BATCH clear */
	MODE_COMPACTION = 64,	/* real folios, compaction's log, more words in dumps */
	MODE_DESIGN = 128,	/* a design's map and unmap are logged */
};

struct oracle_header {
	u32 magic, version, nops, mode;
	u32 wmark[3], boost;
	u32 cma_start, cma_pages, dump_every;
	u32 pcp_high_min, pcp_high_max, pcp_batch;
	u32 nholes, holes[ORACLE_HOLES][2];
};

struct oracle_op {
	u8 code, order;
	u16 flags;
	u32 a, b, cpu;
};

struct oracle_answer {
	s32 result, pcp_count, pcp_high;
	u32 nr_free;
};

/* What operation i allocated. */
struct oracle_live {
	struct page *page;	/* NULL: nothing, or freed */
	u8 order, lru, pinned, inode, contig;
	u16 flags;
	u32 pages, at;		/* at: where it stands in the list of the living */
};

enum oracle_code {
	OP_ALLOC = 1,
	OP_FREE_ANY = 2,	/* a % how many live; the host writes down which it was */
	OP_FREE_NEWEST = 3,
	OP_FREE = 4,		/* what operation a allocated, if it did */
	OP_DUMP = 5,
	OP_DRAIN = 6,
	OP_ISOLATE = 7,
	OP_UNISOLATE = 8,
	OP_CONTIG = 9,
	OP_UNRESERVE = 11,
	OP_TICK = 15,
	OP_TAKE = 16,
	OP_COMPACT_NODE = 20,
	OP_COMPACT = 21,
	OP_DIRECT_COMPACT = 22,
	OP_RESET_SKIP = 23,
	OP_KCOMPACTD = 24,
};

enum oracle_flag {
	FLAG_TYPE = 3, FLAG_HIGH = 4, FLAG_KSWAPD = 8, FLAG_NOMEMALLOC = 16, FLAG_COMP = 32, FLAG_LRU = 64,
	FLAG_MEMALLOC = 128, FLAG_256 = 256, FLAG_DIRECT = 512, FLAG_NOFS = 1024, FLAG_UNSPLITTABLE = 2048,
};

struct oracle_state {
	struct oracle_header *header;
	struct oracle_op *ops;
	struct oracle_answer *answers;
	struct oracle_live *live;
	u32 *living, nliving;
	u32 *words, *words_end;		/* dumps */
	s32 *events;
	u32 nevents, row;
	bool logging;
	struct zone *zone, *zone2;
	unsigned long base, base2;	/* first pfn of each */
	unsigned long low, high;	/* pfns held back at boot */
	unsigned long low2, high2;
};
extern struct oracle_state oracle;
extern int oracle_pcp_held;

#define oracle_mode(bit) (oracle.header->mode & (bit))

u32 oracle_frame(struct page *page);
void oracle_dump(u32 after);
void oracle_handover(void);
s32 oracle_own(u32 row, struct page *page, struct oracle_op *op);
void oracle_disown(u32 row);
int oracle_make_inodes(void);
gfp_t oracle_gfp(u16 flags);

/* Six words a row: oracle_ev takes numbers, oracle_evp two pfns first. */
void oracle_ev(int kind, long a, long b, long c, long d);
void oracle_evp(int kind, long pfn1, long pfn2, long c, long d);

/* At the end of mm/page_alloc.c and mm/compaction.c, oracle_alloc.c and oracle_compaction.c: what is static. */
int oracle_unreserve(struct zone *zone, int type, bool force);
struct page *oracle_direct_compact(gfp_t gfp, unsigned int order, int nid, int prio, int *result);
int oracle_try_compact(gfp_t gfp, unsigned int order, int nid, int prio);
void oracle_compact_node(pg_data_t *pgdat, bool proactive);
void oracle_kcompactd(pg_data_t *pgdat, int order);

#ifdef ORACLE_DESIGN
void oracle_book_alloc(struct page *page, unsigned int order, bool protected);
void oracle_book_free(struct page *page, unsigned int pages);
void oracle_book_watch(u32 row, struct oracle_op *op);
void oracle_book_start(void);
#endif

#endif
