/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* For a kernel with a design: what its map and unmap tell the driver.  A design that maps and unmaps pageblocks calls
 * oracle_book_map() and oracle_book_unmap() where it would change page tables; mm/oracle_design.h, which it brings,
 * says what the driver has to know of it (docs/evidence.md).  oracle/edits.py inserts the rest: contexts, and every
 * change of a pageblock's type.
 */
#ifndef ORACLE_BOOK_H
#define ORACLE_BOOK_H

struct page;

/* As in the recorded runs' events. */
enum oracle_context {
	CONTEXT_OTHER, CONTEXT_CLAIM, CONTEXT_PARTIAL, CONTEXT_MERGE, CONTEXT_RESERVE, CONTEXT_UNRESERVE,
	CONTEXT_UNMAP, CONTEXT_ISOLATE_FREE, CONTEXT_FLIP,
};

extern int oracle_context;

struct oracle_context_kept {
	int before;
};

static inline struct oracle_context_kept oracle_context_enter(int context)
{
	struct oracle_context_kept kept = { oracle_context };

	oracle_context = context;
	return kept;
}

static inline void oracle_context_leave(struct oracle_context_kept *kept)
{
	oracle_context = kept->before;
}

/* For the rest of the function, whichever way it ends. */
#define ORACLE_CONTEXT(context) \
	struct oracle_context_kept __maybe_unused __cleanup(oracle_context_leave) oracle_kept = \
		oracle_context_enter(context)

/* A function that changes the type of a page's pageblock: told of at its end, after what the design does about it. */
struct oracle_retyped {
	struct page *page;
	int old;
};

int oracle_block_type(struct page *page);
void oracle_book_retype(struct page *page, int old);

static inline void oracle_retyped_done(struct oracle_retyped *retyped)
{
	oracle_book_retype(retyped->page, retyped->old);
}

#define ORACLE_RETYPED(page) \
	struct oracle_retyped __maybe_unused __cleanup(oracle_retyped_done) oracle_retyped = \
		{ page, oracle_block_type(page) }

void oracle_book_map(struct page *page, unsigned long pages);
void oracle_book_unmap(struct page *page, unsigned long pages);
bool oracle_block_mapped(struct page *page);

#endif
