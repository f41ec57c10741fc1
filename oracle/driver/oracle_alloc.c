/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Included at the end of mm/page_alloc.c: what only that file can call. */
#include "oracle.h"

int oracle_unreserve(struct zone *zone, int type, bool force)
{
	struct alloc_context ac = {
		.zonelist = node_zonelist(zone_to_nid(zone), GFP_KERNEL | __GFP_THISNODE),
		.highest_zoneidx = zone_idx(zone),
		.migratetype = type,
	};

	return unreserve_highatomic_pageblock(&ac, force);
}

#ifdef CONFIG_COMPACTION
/* What the slow path has in hand when it comes to compaction. */
static unsigned int oracle_slowpath(gfp_t gfp, unsigned int order, int nid, struct alloc_context *ac)
{
	unsigned int fast = ALLOC_WMARK_LOW;
	gfp_t fast_gfp = gfp;

	memset(ac, 0, sizeof(*ac));
	prepare_alloc_pages(gfp, order, nid, NULL, ac, &fast_gfp, &fast);
	return ORACLE_SLOWPATH_FLAGS(gfp, order);
}

struct page *oracle_direct_compact(gfp_t gfp, unsigned int order, int nid, int prio, int *result)
{
	enum compact_result answer = COMPACT_NOT_SUITABLE_ZONE;
	struct alloc_context ac;
	unsigned int flags = oracle_slowpath(gfp, order, nid, &ac);
	struct page *page = __alloc_pages_direct_compact(gfp, order, flags, &ac, prio, &answer);

#ifdef ORACLE_FROZEN
	if (page)
		set_page_refcounted(page);
#endif
	*result = answer;
	return page;
}

int oracle_try_compact(gfp_t gfp, unsigned int order, int nid, int prio)
{
#ifdef ORACLE_CAPTURE_CONTROL
	struct capture_control capture = { .order = order };	/* the free path is not told of it */
#else
	struct page *capture = NULL;	/* a kernel thread does not capture */
#endif
	struct alloc_context ac;
	unsigned int flags = oracle_slowpath(gfp, order, nid, &ac), saved;
	int answer;

	saved = memalloc_noreclaim_save();
	answer = try_to_compact_pages(gfp, order, flags, &ac, prio, &capture);
	memalloc_noreclaim_restore(saved);
	return answer;
}
#endif
