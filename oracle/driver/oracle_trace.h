/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Sends compaction's tracepoints to the driver's log.  oracle/edits.py includes it in mm/compaction.c right after
 * trace/events/compaction.h.
 */
#ifndef ORACLE_TRACE_H
#define ORACLE_TRACE_H

void oracle_ev(int kind, long a, long b, long c, long d);
void oracle_evp(int kind, long pfn1, long pfn2, long c, long d);

#define ORACLE_DEFERRAL(kind, z, o) oracle_ev(kind, o, (z)->compact_considered, (z)->compact_defer_shift, \
					      (z)->compact_order_failed)

#define trace_mm_compaction_isolate_migratepages(s, e, n, t) oracle_evp(2, s, e, n, t)
#define trace_mm_compaction_isolate_freepages(s, e, n, t) oracle_evp(3, s, e, n, t)
#define trace_mm_compaction_fast_isolate_freepages(s, e, n, t) oracle_evp(4, s, e, n, t)
#define trace_mm_compaction_migratepages(n, ok) oracle_ev(5, n, ok, 0, 0)
#define trace_mm_compaction_begin(cc, s, e, sync) \
	oracle_evp(6, (cc)->migrate_pfn, (cc)->free_pfn, (cc)->mode, (cc)->whole_zone)
#define trace_mm_compaction_end(cc, s, e, sync, ret) do { \
	oracle_evp(7, (cc)->migrate_pfn, (cc)->free_pfn, ret, 0); \
	oracle_ev(8, (cc)->total_migrate_scanned, (cc)->total_free_scanned, (cc)->fast_search_fail, \
		  (cc)->search_order); \
} while (0)
#define trace_mm_compaction_finished(z, o, ret) oracle_ev(9, o, ret, 0, 0)
#define trace_mm_compaction_suitable(z, o, ret) oracle_ev(10, o, ret, 0, 0)
#define trace_mm_compaction_deferred(z, o) ORACLE_DEFERRAL(11, z, o)
#define trace_mm_compaction_defer_compaction(z, o) ORACLE_DEFERRAL(12, z, o)
#define trace_mm_compaction_defer_reset(z, o) ORACLE_DEFERRAL(13, z, o)

#endif
