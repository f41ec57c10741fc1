/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Included at the end of mm/compaction.c: what only that file can call. */
#include "oracle.h"

void oracle_compact_node(pg_data_t *pgdat, bool proactive)
{
	compact_node(pgdat, proactive);
}

void oracle_kcompactd(pg_data_t *pgdat, int order)
{
	pgdat->kcompactd_max_order = order;
	kcompactd_do_work(pgdat);
}
