/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* What a kernel with a design tells the driver; this one is that of mapped_reclaimable.py.  Left out is what stays as
 * Linux has it: ORACLE_TYPES, ORACLE_FREE_LIST(zone, order, type), ORACLE_BLOCK_TYPE(page) (all three together) and
 * ORACLE_PROTECTED(gfp), which makes a request a protected one.
 */

/* Does a block of this type promise to be mapped? */
#define ORACLE_TYPE_MAPPED(type) ((type) == MIGRATE_RECLAIMABLE)
/* Must what such a request of the script gets not be mapped?  Left out: what asks with FLAG_256. */
#define ORACLE_IS_PROTECTED(flags) (((flags) & FLAG_TYPE) != 2)
/* The type that it looks in first. */
#define ORACLE_REQUEST_TYPE(flags) ((flags) & FLAG_TYPE)
