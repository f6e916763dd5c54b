/* signals.h: a first SIGINT, SIGTERM or SIGHUP asks the run to stop at the next chunk; a second one kills. */
#ifndef QN_CLI_SIGNALS_H
#define QN_CLI_SIGNALS_H

#include <stdatomic.h>

/* Installs the handlers; a signal that the parent has us ignore (nohup, background jobs) stays ignored. SIGPIPE and
 * SIGXFSZ become errors of write. */
void qn_signals_init(void);
/* The flag for qn_env.cancel: 0, or the number of the signal that came. */
const atomic_int *qn_signals_flag(void);
/* Ends the process by this signal, as the shell that waits for us expects it (its status is 128 + n). */
_Noreturn void qn_signals_die(int sig);

#endif
