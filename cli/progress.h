/* progress.h: one line on stderr that says how far a run is and when it ends.
 *
 * On a terminal it appears when a run has taken two seconds and is redrawn in place; with --progress and no
 * terminal it is a plain line now and then. Nothing else may be printed while it stands: qn_progress_clear first. */
#ifndef QN_CLI_PROGRESS_H
#define QN_CLI_PROGRESS_H

#include "cli/term.h"
#include <stdint.h>

typedef struct qn_progress {
    const qn_term *term;
    bool on, shown;
    const char *what;       /* phase: a new one begins a new estimate */
    double began, phase_began, drawn;
    double rate;            /* bytes per second, smoothed             */
    uint64_t phase_from, last_done, done, total;
    double last_at;
} qn_progress;

/* `forced`: --progress. Off when `quiet`, or without a terminal unless forced. */
void qn_progress_init(qn_progress *p, const qn_term *term, bool forced, bool quiet);
/* The callback of qn_env; ctx is the qn_progress. total 0: not known. Bytes, or what the last word of `what` is when that is "tokens" or "runs". */
void qn_progress_update(void *ctx, const char *what, uint64_t done, uint64_t total);
void qn_progress_clear(qn_progress *p);

#endif
