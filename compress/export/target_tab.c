/* target_tab.c: one row per target, in the order of the overview. */
#include "compress/export/export.h"

const qn_export_target *const qn_export_targets[] = {
    &qn_export_gguf,
    NULL,
};
