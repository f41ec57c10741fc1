// SPDX-License-Identifier: GPL-2.0 OR MIT
// The book of a design that maps by pageblock: who owns a frame, what it held, and which blocks are mapped.
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include "internal.h"
#include "oracle.h"
#include "oracle_book.h"

enum { LIVE_PROTECTED = 1, LIVE_PLAIN = 2, STALE = 4 };
enum { EVENT_MAP = 1, EVENT_UNMAP = 2, EVENT_SILENT = 3, EVENT_RETYPE = 4 };

int oracle_context;
static u8 *frames, *mapped;
static u32 blocks;
static s32 exposed, hidden;	/* live protected pages that are mapped, live plain ones that are not */

static u32 block_of(u32 frame)
{
	return frame >> pageblock_order;
}

static u32 frame_of(struct page *page)
{
	return page_to_pfn(page) - oracle.base;
}

static bool booked(struct page *page)
{
	return oracle.logging && page_zone(page) == oracle.zone;
}

/* The zone begins at a pageblock.  Nothing is mapped before the first operation. */
void oracle_book_start(void)
{
	frames = phys_to_virt(ORACLE_FRAMES);
	blocks = block_of(oracle.zone->spanned_pages + pageblock_nr_pages - 1);
	mapped = frames + oracle.zone->spanned_pages;
	memset(frames, 0, oracle.zone->spanned_pages + blocks);
}

bool oracle_block_mapped(struct page *page)
{
	return mapped[block_of(frame_of(page))];
}

static u32 count(u32 block, u8 what)
{
	u32 frame, n = 0, first = block << pageblock_order;

	for (frame = first; frame < first + pageblock_nr_pages; frame++)
		n += !!(frames[frame] & what);
	return n;
}

static void log_event(int kind, int old, int new, u32 frame, u32 pages, u32 aux)
{
	oracle_ev(kind | oracle_context << 8 | old << 16 | new << 24, frame, pages, aux, 0);
}

void oracle_book_map(struct page *page, unsigned long pages)
{
	u32 first = block_of(frame_of(page)), n = pages >> pageblock_order, block, stale = 0, already = 0;

	if (!booked(page))
		return;
	for (block = first; block < first + n; block++) {
		if (mapped[block]) {
			already++;
			continue;
		}
		mapped[block] = 1;
		stale += count(block, STALE);
		exposed += count(block, LIVE_PROTECTED);
		hidden -= count(block, LIVE_PLAIN);
	}
	log_event(EVENT_MAP, 0, 0, first << pageblock_order, pages, stale | already << 16);
}

void oracle_book_unmap(struct page *page, unsigned long pages)
{
	u32 first = block_of(frame_of(page)), n = pages >> pageblock_order, block, absent = 0;

	if (!booked(page))
		return;
	for (block = first; block < first + n; block++) {
		if (!mapped[block]) {
			absent++;
			continue;
		}
		mapped[block] = 0;
		exposed -= count(block, LIVE_PROTECTED);
		hidden += count(block, LIVE_PLAIN);
	}
	log_event(EVENT_UNMAP, 0, 0, first << pageblock_order, pages, absent << 16);
}

int oracle_block_type(struct page *page)
{
	return ORACLE_BLOCK_TYPE(page);
}

void oracle_book_retype(struct page *page, int old)
{
	u32 block = block_of(frame_of(page));
	int new = oracle_block_type(page);
	int kind = EVENT_RETYPE;

	if (!booked(page) || old == new)
		return;
	if (mapped[block] && !ORACLE_TYPE_MAPPED(new))
		kind = EVENT_SILENT;
	log_event(kind, old, new, block << pageblock_order, pageblock_nr_pages,
		  count(block, LIVE_PROTECTED) | count(block, LIVE_PLAIN) << 16);
}

void oracle_book_alloc(struct page *page, unsigned int order, bool protected)
{
	u32 frame, first = frame_of(page);

	for (frame = first; frame < first + (1U << order); frame++) {
		frames[frame] |= protected ? LIVE_PROTECTED | STALE : LIVE_PLAIN;
		if (protected)
			exposed += mapped[block_of(frame)];
		else
			hidden += !mapped[block_of(frame)];
	}
}

void oracle_book_free(struct page *page, unsigned int pages)
{
	u32 frame, first = frame_of(page);

	for (frame = first; frame < first + pages; frame++) {
		if (frames[frame] & LIVE_PROTECTED)
			exposed -= mapped[block_of(frame)];
		if (frames[frame] & LIVE_PLAIN)
			hidden -= !mapped[block_of(frame)];
		frames[frame] &= STALE;
	}
}

/* What a request that failed did not get because it is on the other side: whole pageblocks, and pages. */
static void count_other_side(struct oracle_op *op, s32 *found)
{
	bool mine = ORACLE_TYPE_MAPPED(ORACLE_REQUEST_TYPE(op->flags));
	int order, type;

	for (type = 0; type < ORACLE_TYPES; type++) {
		if (ORACLE_TYPE_MAPPED(type) == mine || type == MIGRATE_ISOLATE)
			continue;
		for (order = 0; order < NR_PAGE_ORDERS; order++) {
			s32 n = list_count_nodes(ORACLE_FREE_LIST(oracle.zone, order, type));

			found[1] += n << order;
			if (order >= pageblock_order)
				found[0] += n << (order - pageblock_order);
		}
	}
}

/* Eight numbers an operation, behind the answers. */
void oracle_book_watch(u32 row, struct oracle_op *op)
{
	s32 *out = (s32 *)(oracle.answers + oracle.header->nops) + 8 * (size_t)row;
	u32 block;

	memset(out, 0, 8 * sizeof(*out));
	out[0] = oracle.nevents;
	out[1] = exposed;
	out[2] = hidden;
	for (block = 0; block < blocks; block++) {
		struct page *page = pfn_to_page(oracle.base + ((unsigned long)block << pageblock_order));
		bool says = ORACLE_TYPE_MAPPED(ORACLE_BLOCK_TYPE(page));

		out[3] += mapped[block] && !says;
		out[4] += !mapped[block] && says;
		out[5] += mapped[block];
	}
	if (op->code == OP_ALLOC && oracle.answers[row].result < 0)
		count_other_side(op, out + 6);
}
