/* op_lm_tab.c: our own operators, of language models. Numbers: inputs least and most, outputs least and most. */
#include "analysis/exec/ops_lm.h"

const qn_op qn_ops_lm[] = {
    {.name = NULL},
};
