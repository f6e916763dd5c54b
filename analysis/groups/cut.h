/* cut.h: which groups of a model go, and what is left of every weight then. */
#ifndef QN_ANALYSIS_GROUPS_CUT_H
#define QN_ANALYSIS_GROUPS_CUT_H

#include "analysis/exec/overlay.h"
#include "analysis/groups/groups.h"

typedef struct qn_cut {
    const qn_env *env;
    const qn_groups *groups; /* borrowed                                    */
    uint8_t **gone;          /* per family: n_groups flags, 1: it goes       */
    uint32_t *n_gone;        /* per family                                   */
    uint32_t *first, *refs;  /* members of a value: refs[first[v] … first[v + 1]), each (family, member) in two places */
} qn_cut;

typedef struct qn_cost {
    uint64_t params, bytes;  /* bytes: of weights in the source's dtypes */
    double macs;             /* of one run of the traced inputs          */
} qn_cost;

qn_code qn_cut_new(const qn_env *env, const qn_groups *s, qn_cut **out, qn_err *err) QN_MUST_CHECK; /* nothing goes */
void qn_cut_free(qn_cut *c);
void qn_cut_set(qn_cut *c, uint32_t family, uint32_t group, bool gone);
void qn_cut_copy(qn_cut *dst, const qn_cut *src); /* of the same groups */
/* Does index i of an axis go? In one array for all: keep[i] = 1 stays; n = size of the axis. *n_kept: how many stay. Any value, weights and others. */
qn_code qn_cut_axis(const qn_cut *c, uint32_t value, unsigned axis, uint8_t *keep, uint64_t n, uint64_t *n_kept, qn_err *err) QN_MUST_CHECK;
bool qn_cut_touches(const qn_cut *c, uint32_t value);
/* Sets what goes to 0 in the weight of full shape: row-major f32, as the graph has it. */
qn_code qn_cut_zero(const qn_cut *c, uint32_t value, float *w, qn_err *err) QN_MUST_CHECK;
/* The same in every weight of an overlay of the graph. */
qn_code qn_cut_zero_overlay(const qn_cut *c, qn_overlay *w, qn_err *err) QN_MUST_CHECK;
/* Copies what stays: elements of any width (bytes each) from full shape to cut shape; out_dims gets the new shape. */
qn_code qn_cut_take(const qn_cut *c, uint32_t value, unsigned elem_bytes, const void *full, void *out, int64_t out_dims[QN_ARRAY_RANK_MAX],
                    qn_err *err) QN_MUST_CHECK;
/* Shape of any value after the cut. */
qn_code qn_cut_dims(const qn_cut *c, uint32_t value, int64_t dims[QN_ARRAY_RANK_MAX], qn_err *err) QN_MUST_CHECK;
/* Parameters, bytes and multiplications after the cut: counted from the shapes that are left, not added up. */
qn_code qn_cut_cost(const qn_cut *c, qn_cost *out, qn_err *err) QN_MUST_CHECK;
/* Every axis keeps something (QN_E_INPUT names the first that would not), and groups of a convolution keep equal numbers. */
qn_code qn_cut_check(const qn_cut *c, qn_err *err) QN_MUST_CHECK;

#endif
