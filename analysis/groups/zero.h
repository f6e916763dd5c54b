/* zero.h: what elementwise operators make of 0 (zero_tab.c). Of an operator that is not in the table: something else. */
#ifndef QN_ANALYSIS_GROUPS_ZERO_H
#define QN_ANALYSIS_GROUPS_ZERO_H

typedef enum qn_zero_kind {
    QN_LOSES,      /* f(0) ≠ 0, or not known               */
    QN_KEEPS,      /* 0 when all operands are               */
    QN_FIRST,      /* 0 when the first operand is           */
    QN_BRANCHES,   /* 0 when operands 1 and 2 are           */
    QN_MULTIPLIES, /* 0 when any operand is                 */
    QN_DIVIDES,    /* 0 when the first is; the second must not be */
    QN_POLE        /* has no value at 0                     */
} qn_zero_kind;

typedef struct qn_zero_row {
    const char *op;
    qn_zero_kind kind;
} qn_zero_row;
extern const qn_zero_row qn_zero_rows[]; /* ended by op NULL, whose kind is that of all others */

#endif
