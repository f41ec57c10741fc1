"""A tree that looks like a kernel's where the driver looks, and holds nothing of one."""

FILES = {
    "Makefile": "# SPDX\nVERSION = 9\nPATCHLEVEL = 1\nSUBLEVEL = 0\nEXTRAVERSION = -rc3\nNAME = None\n",
    "mm/page_alloc.c": (
        "int before;\nstatic int watermark_boost_factor = 1;\n"
        "static void drain_pages_zone(int cpu,\n\t\t\t     int zone)\n{\n\treturn;\n}\n"
        "void calls(void)\n{\n\tdrain_pages_zone(1, 2);\n}\n"
        "static inline int gfp_to_alloc_flags(int gfp)\n{\n\treturn gfp;\n}\n"
    ),
    "mm/compaction.c": (
        "#include <linux/mm.h>\n#include <trace/events/compaction.h>\n#ifdef X\n"
        "static int __init kcompactd_init(void)\n{\n\treturn 0;\n}\n#endif\n"
    ),
    "mm/vmstat.c": "static int sysctl_stat_interval __read_mostly = HZ;\n",
    "mm/Makefile": "obj-y := vmstat.o\n",
    "mm/internal.h": "",
    "include/linux/page-isolation.h": "int start_isolate_page_range(unsigned long start,\n\t\tint type);\n",
    "include/linux/gfp.h": "int alloc_contig_range_noprof(unsigned long start, int type);\n",
    "include/linux/compaction.h": "int try_to_compact_pages(int gfp, struct page **page);\n",
}
#: The same in the other form that the driver knows.
NEWER = FILES | {
    "mm/page_alloc.c": FILES["mm/page_alloc.c"].replace("gfp_to_alloc_flags", "alloc_flags_slowpath")
    + "struct page *__alloc_frozen_pages_noprof(int gfp)\n{\n\treturn 0;\n}\n",
    "mm/internal.h": "extern int defrag_mode;\n",
    "include/linux/page-isolation.h": "int start_isolate_page_range(long start, enum pb_isolate_mode m);\n",
    "include/linux/gfp.h": "int alloc_contig_range_noprof(long start, acr_flags_t flags);\n",
    "include/linux/compaction.h": "int try_to_compact_pages(int gfp, struct capture_control *c);\n",
}


def tree(path, files=FILES):
    """Writes the tree."""
    for name, text in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    return path
