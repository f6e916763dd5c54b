/* coder_tab.c: one row for each block type that can be written. */
#include "compress/blocks/block.h"
#include <string.h>

const qn_block_coder *const qn_block_coders[] = {
    &qn_coder_q4_0,
    &qn_coder_q4_1,
    &qn_coder_q5_0,
    &qn_coder_q5_1,
    &qn_coder_q8_0,
    &qn_coder_iq4_nl,
    &qn_coder_q1_0,
    &qn_coder_q2_0,
    &qn_coder_tq1_0,
    &qn_coder_tq2_0,
    &qn_coder_mxfp4,
    &qn_coder_nvfp4,
    &qn_coder_q2_k,
    &qn_coder_q3_k,
    &qn_coder_q4_k,
    &qn_coder_q5_k,
    &qn_coder_q6_k,
    &qn_coder_iq4_xs,
    &qn_coder_iq1_s,
    &qn_coder_iq1_m,
    &qn_coder_iq2_xxs,
    &qn_coder_iq2_xs,
    &qn_coder_iq2_s,
    &qn_coder_iq3_xxs,
    &qn_coder_iq3_s,
};
const unsigned qn_block_coder_count = sizeof qn_block_coders / sizeof qn_block_coders[0];

const qn_block_coder *qn_block_coder_find(const char *name)
{
    for (unsigned i = 0; i < qn_block_coder_count; i++)
        if (strcmp(qn_block_coders[i]->name, name) == 0)
            return qn_block_coders[i];
    return NULL;
}

const qn_block_coder *qn_block_coder_of(qn_dtype t)
{
    for (unsigned i = 0; i < qn_block_coder_count; i++)
        if (qn_block_coders[i]->dtype == t)
            return qn_block_coders[i];
    return NULL;
}
